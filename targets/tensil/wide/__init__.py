"""Sums wider than a word, as operations on words: rewrites of the integer graph, exact or bounded by construction."""
