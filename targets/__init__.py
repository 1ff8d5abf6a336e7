"""Backends: each lowers an integer graph to artifacts and states its limits as data."""
