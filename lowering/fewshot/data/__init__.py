"""Pictures in classes, split into base, val and novel: glyphs by default, and readers of what others publish."""
