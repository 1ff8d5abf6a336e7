"""Graph to graph: every rewrite between the file and the targets. `pipeline.py` lists them in order."""
