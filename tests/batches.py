"""Catalogs of small synthetic scenes, and recipes over them, that the tests of batches share."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from pathlib import Path

import yaml
from predicting import BANDS, save_model

from geomm.catalog import Grid, degrees_of
from geomm.testing import write_scene

SIDE = 48
QUIET = {"dashboard_address": ":0", "scheduler_kwargs": {"dashboard": False}}
"""Of a cluster on this machine: it asks for no port that another one has."""
PATIENT = {"distributed.deploy.lost-worker-timeout": "10 minutes"}
"""On a busy machine a worker needs more than 15 seconds to come back; then its cluster would give it up."""
GAP = 3000.0
"""Metres between scenes: they do not touch."""


def write_item(
    folder: Path, number: int, *, checksums: bool = False, href: str | None = None, side: int = SIDE
) -> dict:
    """Write a scene of optical and thermal bands; return its item. ``href`` goes before the file names."""
    name = f"scene-{number:04d}"
    origin = (300000.0 + GAP * (number % 100), 4000000.0 - GAP * (number // 100))
    for sensor, bands in (("landsat-oli-l1", BANDS["optical"]), ("landsat-tirs-l1", BANDS["thermal"])):
        write_scene(folder, sensor, item=name, bands=bands, shape=(side, side), origin=origin, seed=number)
    return item_of(folder, number, name, checksums=checksums, href=href, side=side)


def item_of(folder, number, name, *, checksums=False, href=None, side=SIDE):
    origin = (300000.0 + GAP * (number % 100), 4000000.0 - GAP * (number // 100))
    grid = Grid("EPSG:32632", (30.0, 0.0, origin[0], 0.0, -30.0, origin[1]), (side, side))
    west, south, east, north = degrees_of(grid)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    assets = {}
    for band in (*BANDS["optical"], *BANDS["thermal"]):
        path = folder / f"{name}_{band}.tif"
        assets[band] = {
            "href": f"{href}/{path.name}" if href else str(path),
            "type": "image/tiff; application=geotiff",
            "roles": ["data"],
            "proj:code": "EPSG:32632",
            "proj:transform": list(grid.transform),
            "proj:shape": [side, side],
        }
        if checksums:
            content = path.read_bytes()
            assets[band] |= {"file:checksum": f"1220{hashlib.sha256(content).hexdigest()}", "file:size": len(content)}
    when = dt.datetime(2020, 1, 1, 10, tzinfo=dt.UTC) + dt.timedelta(days=number)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": when.isoformat().replace("+00:00", "Z"),
            "geomm:sensors": ["landsat-oli-l1", "landsat-tirs-l1"],
        },
        "links": [],
        "assets": assets,
    }


def write_archive(folder: Path, numbers, **options) -> Path:
    """Write scenes and the item collection that lists them; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "items.json"
    items = json.loads(path.read_text())["features"] if path.is_file() else []
    items += [write_item(folder / "imagery", n, **options) for n in numbers]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def write_recipe(folder: Path, catalog: Path, model: Path, *, name: str = "maps", **stage) -> Path:
    """Write a recipe with one stage that maps."""
    raw = {
        "name": name,
        "source": {"catalog": str(catalog)},
        "stages": [
            {"name": "maps", "kind": "predict", "model": str(model), "layers": ["class"], "size": 32, "halo": 16}
            | stage
        ],
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def write_composites(folder: Path, catalog: Path, *, name: str = "thermal") -> Path:
    """Write a recipe of composites, one tile for every scene: it needs no model, and so starts in no time."""
    stage = {"name": "heat", "kind": "composite", "sensor": "landsat-tirs-l1", "band": "B10"}
    stage |= {"crs": "EPSG:32632", "resolution": 30.0, "size": 100, "period": "day", "background": 9}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "source": {"catalog": str(catalog)}, "stages": [stage]}))
    return path


def write_model(folder: Path) -> Path:
    """Write an untrained model for them."""
    return save_model(folder).path


def published(out: Path) -> dict[str, str]:
    """Return the hash of every published file."""
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file() and ".geomm" not in p.parts
    }
