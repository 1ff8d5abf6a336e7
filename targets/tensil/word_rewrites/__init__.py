"""Rewrites of groups in words."""
