"""Rewrites of groups in codes."""
