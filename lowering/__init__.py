"""pefslc: what was trained is what runs."""
