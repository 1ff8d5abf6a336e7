"""Portable C99."""
