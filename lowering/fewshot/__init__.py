"""Few-shot learning: pictures to feature codes, and a classifier in integers that learns on the device."""
