"""The typed intermediate representation, in two levels."""
