"""The Tensil Compute Unit: machine model and lowering."""
