"""The demo page: a compiled few-shot system to draw for, to film for and to play with, on this computer only."""
