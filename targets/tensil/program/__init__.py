"""Programs as tables of instructions and as files."""
