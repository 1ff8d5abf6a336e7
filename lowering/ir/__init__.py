"""The typed intermediate representation, in two levels: its operations, what they mean, and how they are written."""
