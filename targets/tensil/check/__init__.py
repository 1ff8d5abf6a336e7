"""Rules that a program must keep on the machine."""
