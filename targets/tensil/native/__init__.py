"""Float models in the machine's own arithmetic."""
