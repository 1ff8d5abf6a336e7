"""The same integers from model, interpreter and artifacts."""
