"""Bits shared out over the tensors of a network, within a budget: arithmetic that knows no network."""
