"""Sweeps over formats, methods and seeds: cells that are pure functions, cached by content, in one table and figure."""
