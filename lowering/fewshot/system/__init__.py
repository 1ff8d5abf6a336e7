"""A compiled few-shot system: from camera frames to the codes of a network and back to names."""
