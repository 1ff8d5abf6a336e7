"""Pictures in classes, split into base, val and novel: the default set of glyphs, and readers of what others publish."""
