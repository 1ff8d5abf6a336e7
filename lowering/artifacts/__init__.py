"""What is written beside a program: the sidecar and the costs."""
