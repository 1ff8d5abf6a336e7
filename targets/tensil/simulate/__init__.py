"""Programs run on a model of the machine."""
