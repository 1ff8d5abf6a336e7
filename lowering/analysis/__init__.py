"""What is known of a graph without running it: ranges, and whether it is legal."""
