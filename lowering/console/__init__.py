"""What the command line shows and asks: commands, options, tables. Heavy modules are imported inside functions."""
