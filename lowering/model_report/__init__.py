"""The report of a compiled model: what became of it, as data, text and a comparison; `report_page` draws it."""
