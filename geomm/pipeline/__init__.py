"""Recipes at work: one page that runs a recipe from the catalog to the map, and its parts."""

from __future__ import annotations

from geomm.pipeline.recipe import RunResult, run

__all__ = ["RunResult", "run"]
