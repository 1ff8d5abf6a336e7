"""The second form: groups in the machine's words."""
