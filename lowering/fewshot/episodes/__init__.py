"""Episodes: N-way K-shot tasks, and how accurate a nearest-class-mean head is on them. NumPy only."""
