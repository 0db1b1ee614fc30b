"""Batches: a recipe over a whole catalog, unit by unit, and what became of every unit."""
