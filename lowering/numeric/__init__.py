"""Exact arithmetic: formats, rounding, staircases, accumulator bounds. Integers and rationals only."""
