"""What a graph computes: on integers, and in float64."""
