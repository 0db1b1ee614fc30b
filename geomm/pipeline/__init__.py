"""Recipes at work: ``recipe.py`` is the page that runs one from the catalog to the map; the others are its parts."""
