"""What a user is told: errors, their codes, and faults of a user's own code."""
