"""The Tensil Compute Unit: its architecture, numbers, instructions and timing."""
