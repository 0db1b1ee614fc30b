"""geomm: from an imagery catalog to maps and answers.

The public names load when they are first used, so that ``import geomm`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geomm.annotations import Annotations, annotations_of, derive_annotations, read_annotations, read_questions
    from geomm.catalog import Scene, build_catalog, open_catalog
    from geomm.chips import Chip, ChipGrid, SpatialSplit
    from geomm.config import RunConfig, load_recipe
    from geomm.cube import calibrated, check_radiometry, common_geobox, composite, group_sites, load_cube
    from geomm.errors import GeommError
    from geomm.export import write_products
    from geomm.package import ModelPackage, load_package
    from geomm.pipeline import run
    from geomm.prediction import predict
    from geomm.retrieval import Index
    from geomm.sensors import SENSORS, BandSpec, SensorSpec
    from geomm.types import ClassSpec, LayerSpec, Modality, Prediction, Window

from geomm._version import __version__

_MODULES = {
    "annotations": ("Annotations", "annotations_of", "derive_annotations", "read_annotations", "read_questions"),
    "catalog": ("Scene", "build_catalog", "open_catalog"),
    "chips": ("Chip", "ChipGrid", "SpatialSplit"),
    "config": ("RunConfig", "load_recipe"),
    "cube": ("calibrated", "check_radiometry", "common_geobox", "composite", "group_sites", "load_cube"),
    "errors": ("GeommError",),
    "export": ("write_products",),
    "package": ("ModelPackage", "load_package"),
    "pipeline": ("run",),
    "prediction": ("predict",),
    "retrieval": ("Index",),
    "sensors": ("SENSORS", "BandSpec", "SensorSpec"),
    "types": ("ClassSpec", "LayerSpec", "Modality", "Prediction", "Window"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SENSORS",
    "Annotations",
    "BandSpec",
    "Chip",
    "ChipGrid",
    "ClassSpec",
    "GeommError",
    "Index",
    "LayerSpec",
    "Modality",
    "ModelPackage",
    "Prediction",
    "RunConfig",
    "Scene",
    "SensorSpec",
    "SpatialSplit",
    "Window",
    "__version__",
    "annotations_of",
    "build_catalog",
    "calibrated",
    "check_radiometry",
    "common_geobox",
    "composite",
    "derive_annotations",
    "group_sites",
    "load_cube",
    "load_package",
    "load_recipe",
    "open_catalog",
    "predict",
    "read_annotations",
    "read_questions",
    "run",
    "write_products",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"geomm.{_HOME[name]}"), name)
    raise AttributeError(f"module 'geomm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
