"""What became of each layer, of formats, and of a float model's values."""
