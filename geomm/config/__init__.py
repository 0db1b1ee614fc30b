"""Recipes: strict records read from YAML. Unknown keys are refused, every field says what it means."""

from __future__ import annotations

from geomm.config.parts import ClassConfig, LabelConfig, TextConfig
from geomm.config.recipe import RunConfig, load_recipe

__all__ = ["ClassConfig", "LabelConfig", "RunConfig", "TextConfig", "load_recipe"]
