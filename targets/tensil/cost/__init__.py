"""Modelled cycles of a program, and what they are spent on."""
