"""Arrays, paths and artifacts on disk."""
