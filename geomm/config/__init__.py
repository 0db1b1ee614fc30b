"""Recipes: strict records read from YAML. Unknown keys are refused, every field says what it means."""

from __future__ import annotations

from geomm.config.batch import (
    BatchConfig,
    ChipsStage,
    CompositeStage,
    IndexStage,
    PredictStage,
    ScenesConfig,
    Stage,
    TrainStage,
    TrustConfig,
)
from geomm.config.parts import ClassConfig, LabelConfig, SourceConfig, TextConfig
from geomm.config.reading import find_recipe, read_yaml
from geomm.config.recipe import RunConfig, is_batch, load_batch, load_recipe, recipe_of

__all__ = [
    "BatchConfig",
    "ChipsStage",
    "ClassConfig",
    "CompositeStage",
    "IndexStage",
    "LabelConfig",
    "PredictStage",
    "RunConfig",
    "ScenesConfig",
    "SourceConfig",
    "Stage",
    "TextConfig",
    "TrainStage",
    "TrustConfig",
    "find_recipe",
    "is_batch",
    "load_batch",
    "load_recipe",
    "read_yaml",
    "recipe_of",
]
