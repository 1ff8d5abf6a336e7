"""Graphs on data: batches for calibration, and the noise that quantization leaves."""
