"""Few-shot learning: from pictures to a device that learns classes from a few examples each, all in integers."""
