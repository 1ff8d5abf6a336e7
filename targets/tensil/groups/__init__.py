"""The first form: groups of operations in codes."""
