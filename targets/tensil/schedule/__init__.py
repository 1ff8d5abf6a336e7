"""From groups in words to instructions."""
