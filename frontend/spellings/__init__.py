"""Operators that are another operator's spelling become that one, before the graph is imported."""
