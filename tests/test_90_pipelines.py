"""The recipes of batches that come with geomm run on real imagery, and a second time do nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio

import geomm
from geomm.batch import BatchOptions, run_batch
from geomm.config import load_batch

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"stages.0.overrides": {"train.seeds": [0], "train.steps": 6}}


def twice(name, out, overrides, stages):
    """Run a recipe, check that it made something in every stage, and that it makes nothing the second time."""
    config = load_batch(ROOT / "pipelines" / name, overrides)
    first = run_batch(config, out)
    assert first.code == 0, (first.error, [(u.name, u.message) for u in first.units])
    assert {u.stage for u in first.units if u.state == "DONE"} == set(stages)
    again = run_batch(config, out)
    assert (again.code, again.units) == (0, ())
    assert {a.why for a in again.actions} == {"present"}
    assert run_batch(config, out, BatchOptions(dry_run=True)).actions == again.actions
    return {(u.stage, u.name): out / u.place for u in first.units}


@pytest.mark.demo
def test_cloud_maps(tmp_path):
    made = twice("cloud_maps.yaml", tmp_path / "out", QUICK, ["model", "maps"])
    place = next(p for (stage, _), p in made.items() if stage == "maps")
    with rasterio.open(next(place.glob("*-class.tif"))) as file:
        assert set(np.unique(file.read(1))) <= {0, 1, 2, 255}
    assert list(place.glob("*-polygons.gpkg"))
    assert geomm.load_package(next((tmp_path / "out" / "model").rglob("mlm.json")).parent).contract.resolution == 30.0


@pytest.mark.shared
def test_landcover_maps_through_stored_chips(tmp_path):
    quick = {"stages.1.overrides": {"train.seeds": [0], "train.steps": 6}}
    made = twice("landcover_maps.yaml", tmp_path / "out", quick, ["chips", "model", "maps"])
    assert len([1 for stage, _ in made if stage == "chips"]) == 3
    stored = geomm.StoredChips(next(p for (stage, _), p in made.items() if stage == "chips") / "chips")
    assert len(stored) == 16
    assert len(list((tmp_path / "out").glob("maps/*/*/*-class.tif"))) == 3


@pytest.mark.shared
def test_flood_watch(tmp_path):
    made = twice("flood_watch.yaml", tmp_path / "out", QUICK, ["model", "water"])
    place = next(p for (stage, _), p in made.items() if stage == "water")
    with rasterio.open(next(place.glob("*-class.tif"))) as file:
        assert file.crs.to_epsg() == 32630
        assert set(np.unique(file.read(1))) <= {0, 1, 255}


@pytest.mark.demo
def test_thermal_anomalies(tmp_path):
    made = twice("thermal_anomalies.yaml", tmp_path / "out", None, ["heat"])
    assert len(made) > 1
    for place in made.values():
        files = {p.stem.rpartition("-")[2]: p for p in place.glob("*.tif")}
        if not files:
            continue
        with rasterio.open(files["median"]) as median, rasterio.open(files["count"]) as count:
            kelvin, seen = median.read(1), count.read(1)
            assert median.transform.c % (512 * 30) == 0
        assert (np.isfinite(kelvin) == (seen > 0)).all()
        assert 230 < np.nanmin(kelvin) <= np.nanmax(kelvin) < 330


@pytest.mark.demo
@pytest.mark.words
def test_nightly_index(tmp_path):
    quick = {"stages.0.overrides": {"train.steps": 6}}
    twice("nightly_index.yaml", tmp_path / "out", quick, ["model", "places"])
    index = geomm.open_index(tmp_path / "out" / "places" / "index")
    assert len(index) > 100
    assert len(index.search("the open sea", k=3)) == 3
