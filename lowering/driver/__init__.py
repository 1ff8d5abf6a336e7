"""From a model file to a program, and back from artifacts on disk."""
