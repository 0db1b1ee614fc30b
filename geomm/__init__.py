"""geomm: from an imagery catalog to maps and answers.

The public names load when they are first used, so that ``import geomm`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from geomm.plugins import import_plugins

if TYPE_CHECKING:
    from geomm.annotations import Annotations, annotations_of, derive_annotations, read_annotations, read_questions
    from geomm.batch import BatchOptions, run_batch
    from geomm.batches import ChipBatches
    from geomm.catalog import ReadPolicy, Scene, build_catalog, open_catalog
    from geomm.chipping import ChipReader, Target
    from geomm.chips import (
        Chip,
        ChipGrid,
        SpatialSplit,
        balanced_chips,
        centred_chips,
        label_counts,
        random_chips,
        split_places,
        timed_chips,
    )
    from geomm.config import RunConfig, load_batch, load_recipe
    from geomm.cube import (
        calibrated,
        check_radiometry,
        common_geobox,
        composite,
        from_xarray,
        group_sites,
        load_cube,
    )
    from geomm.dataset import ChipDataset, ChipLoader
    from geomm.errors import GeommError
    from geomm.explanations import explain
    from geomm.export import Provenance, write_products
    from geomm.grounding import Prompts, ground, read_prompts, zero_shot
    from geomm.interop import chips_frame, from_torchgeo, scenes_frame, to_torchgeo
    from geomm.models.fusion import register_fusion
    from geomm.models.multimodal import ModelSpec
    from geomm.package import InputContract, ModelPackage, load_package, save_package
    from geomm.pipeline.chips import recipe_chips
    from geomm.pipeline.demo import demo_catalog
    from geomm.pipeline.indexing import index_source, open_index
    from geomm.pipeline.labels import rasterize_labels
    from geomm.pipeline.recipe import run
    from geomm.pipeline.retrieve import run_search
    from geomm.pipeline.searching import Question, gallery
    from geomm.prediction import (
        Predictor,
        PredictSettings,
        predict,
        predict_blocks,
        predict_map,
        predictor_of_module,
        settings_for,
        to_xarray,
    )
    from geomm.radiometry import Calibration
    from geomm.retrieval import Index, merge_indexes, search_partitions, verify_index
    from geomm.retrieval.build import IndexSettings, index_cube
    from geomm.retrieval.embedder import Embedder
    from geomm.sensors import SENSORS, BandSpec, QualityRule, SensorSpec, register_sensor
    from geomm.store import StoredChips, StorePart, find_leaks, verify_store, write_store
    from geomm.tasks import get_task, register_task
    from geomm.train import TrainData, TrainSettings
    from geomm.train.evaluate import HeldOut, calibrate, evaluate
    from geomm.train.fit import fit
    from geomm.transforms import Normaliser
    from geomm.types import ClassSpec, LayerSpec, Modality, Prediction, Window

from geomm._version import __version__

_MODULES = {
    "annotations": ("Annotations", "annotations_of", "derive_annotations", "read_annotations", "read_questions"),
    "batch": ("BatchOptions", "run_batch"),
    "batches": ("ChipBatches",),
    "catalog": ("ReadPolicy", "Scene", "build_catalog", "open_catalog"),
    "chipping": ("ChipReader", "Target"),
    "chips": (
        "Chip",
        "ChipGrid",
        "SpatialSplit",
        "balanced_chips",
        "centred_chips",
        "label_counts",
        "random_chips",
        "split_places",
        "timed_chips",
    ),
    "config": ("RunConfig", "load_batch", "load_recipe"),
    "cube": ("calibrated", "check_radiometry", "common_geobox", "composite", "from_xarray", "group_sites", "load_cube"),
    "dataset": ("ChipDataset", "ChipLoader"),
    "errors": ("GeommError",),
    "explanations": ("explain",),
    "export": ("Provenance", "write_products"),
    "grounding": ("Prompts", "ground", "read_prompts", "zero_shot"),
    "interop": ("chips_frame", "from_torchgeo", "scenes_frame", "to_torchgeo"),
    "models.fusion": ("register_fusion",),
    "models.multimodal": ("ModelSpec",),
    "package": ("InputContract", "ModelPackage", "load_package", "save_package"),
    "pipeline.chips": ("recipe_chips",),
    "pipeline.demo": ("demo_catalog",),
    "pipeline.indexing": ("index_source", "open_index"),
    "pipeline.labels": ("rasterize_labels",),
    "pipeline.recipe": ("run",),
    "pipeline.retrieve": ("run_search",),
    "pipeline.searching": ("Question", "gallery"),
    "prediction": (
        "PredictSettings",
        "Predictor",
        "predict",
        "predict_blocks",
        "predict_map",
        "predictor_of_module",
        "settings_for",
        "to_xarray",
    ),
    "radiometry": ("Calibration",),
    "retrieval": ("Index", "merge_indexes", "search_partitions", "verify_index"),
    "retrieval.build": ("IndexSettings", "index_cube"),
    "retrieval.embedder": ("Embedder",),
    "sensors": ("SENSORS", "BandSpec", "QualityRule", "SensorSpec", "register_sensor"),
    "store": ("StorePart", "StoredChips", "find_leaks", "verify_store", "write_store"),
    "tasks": ("get_task", "register_task"),
    "train": ("TrainData", "TrainSettings"),
    "train.evaluate": ("HeldOut", "calibrate", "evaluate"),
    "train.fit": ("fit",),
    "transforms": ("Normaliser",),
    "types": ("ClassSpec", "LayerSpec", "Modality", "Prediction", "Window"),
}
_PARTS = frozenset(module.partition(".")[0] for module in _MODULES) | {
    "charts",
    "metrics",
    "models",
    "radiometry",
    "testing",
}
"""Modules that are there as attributes too, without an import of their own."""
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SENSORS",
    "Annotations",
    "BandSpec",
    "BatchOptions",
    "Calibration",
    "Chip",
    "ChipBatches",
    "ChipDataset",
    "ChipGrid",
    "ChipLoader",
    "ChipReader",
    "ClassSpec",
    "Embedder",
    "GeommError",
    "HeldOut",
    "Index",
    "IndexSettings",
    "InputContract",
    "LayerSpec",
    "Modality",
    "ModelPackage",
    "ModelSpec",
    "Normaliser",
    "PredictSettings",
    "Prediction",
    "Predictor",
    "Prompts",
    "Provenance",
    "QualityRule",
    "Question",
    "ReadPolicy",
    "RunConfig",
    "Scene",
    "SensorSpec",
    "SpatialSplit",
    "StorePart",
    "StoredChips",
    "Target",
    "TrainData",
    "TrainSettings",
    "Window",
    "__version__",
    "annotations_of",
    "balanced_chips",
    "build_catalog",
    "calibrate",
    "calibrated",
    "centred_chips",
    "check_radiometry",
    "chips_frame",
    "common_geobox",
    "composite",
    "demo_catalog",
    "derive_annotations",
    "evaluate",
    "explain",
    "find_leaks",
    "fit",
    "from_torchgeo",
    "from_xarray",
    "gallery",
    "get_task",
    "ground",
    "group_sites",
    "index_cube",
    "index_source",
    "label_counts",
    "load_batch",
    "load_cube",
    "load_package",
    "load_recipe",
    "merge_indexes",
    "open_catalog",
    "open_index",
    "predict",
    "predict_blocks",
    "predict_map",
    "predictor_of_module",
    "random_chips",
    "rasterize_labels",
    "read_annotations",
    "read_prompts",
    "read_questions",
    "recipe_chips",
    "register_fusion",
    "register_sensor",
    "register_task",
    "run",
    "run_batch",
    "run_search",
    "save_package",
    "scenes_frame",
    "search_partitions",
    "settings_for",
    "split_places",
    "timed_chips",
    "to_torchgeo",
    "to_xarray",
    "verify_index",
    "verify_store",
    "write_products",
    "write_store",
    "zero_shot",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"geomm.{_HOME[name]}"), name)
    if name in _PARTS:
        return import_module(f"geomm.{name}")
    raise AttributeError(f"module 'geomm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


import_plugins()  # last: they register what they have with the names above
