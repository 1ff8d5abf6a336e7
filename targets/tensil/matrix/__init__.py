"""Requantization by MatMul."""
