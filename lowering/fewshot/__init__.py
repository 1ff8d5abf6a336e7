"""Few-shot learning: from pictures to a classifier on a device that learns new classes, all in integers."""
