"""The page of a report: one HTML file, its charts by matplotlib, its graph laid out by graphlay, its text by jinja2."""
