"""What a rewrite of a program on the TCU is, in either form."""
