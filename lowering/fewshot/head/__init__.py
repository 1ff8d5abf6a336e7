"""The classifier that learns on the device: nearest class mean in exact integers, its states, emitted C and Python."""
