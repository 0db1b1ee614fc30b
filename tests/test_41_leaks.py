"""The leak report against pixels counted one by one."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod
from typer.testing import CliRunner

import geomm
from geomm import cli
from geomm.chipping import ChipReader
from geomm.chips import Chip, ChipGrid, SpatialSplit, random_chips
from geomm.cube import geobox_of
from geomm.errors import PackageError
from geomm.store import StoredChips, StorePart, find_leaks, write_store
from geomm.testing import write_scene
from geomm.types import Window

STREAMS = ["optical", "thermal"]


def _store(folder, parts):
    """Write ``(site, cube, chips, split's name, options)`` as a store."""
    made = [
        StorePart(site, ChipReader(cube, chips, STREAMS, **options), {"split": [name] * len(chips)})
        for site, cube, chips, name, options in parts
    ]
    return StoredChips(write_store(made, folder / "store"))


def _leak(store):
    (leak,) = find_leaks(store)
    return leak


def _valid(cube):
    """Pixels that any modality has."""
    return cube["optical"]["valid"].to_numpy()[0] | cube["thermal"]["valid"].to_numpy()[0]


@pytest.mark.parametrize("buffer", [0, 3])
def test_blocks_share_nothing_and_lie_a_buffer_apart(cube, tmp_path, buffer):
    split = SpatialSplit.draw((96, 128), {"train": 0.5, "test": 0.5}, block=32, buffer=buffer, seed=4)
    parts = [("a", cube, split.tiles(n, 16), n, {"split": (split, n)}) for n in split.names]
    store = _store(tmp_path, parts)
    leak = _leak(store)
    assert leak.clean
    assert leak.splits == ("train", "test")
    size = abs(geobox_of(cube).affine.a)
    mine = [np.argwhere(split.mask(n, Window(0, 0, 96, 128)) & _valid(cube)) for n in split.names]
    gaps = [np.maximum(np.abs(mine[1] - pixel) - 1, 0) for pixel in mine[0]]
    truth = min(np.hypot(*g.T).min() for g in gaps) * size
    assert leak.distance == pytest.approx(truth, rel=2e-3, abs=0.01)
    assert leak.distance >= buffer * size * 0.998
    done = CliRunner().invoke(cli.app, ["chips", "leaks", str(store.folder)])
    assert done.exit_code == 0
    assert "train - test: " in done.output
    assert "no pixel in both" in done.output


def test_chips_drawn_without_a_split_overlap_and_are_counted(cube, tmp_path):
    chips = random_chips((96, 128), 16, 24, seed=1)
    store = _store(tmp_path, [("a", cube, chips[:12], "train", {}), ("a", cube, chips[12:], "test", {})])
    leak = _leak(store)
    valid = _valid(cube)

    def pixels(chip):
        w = chip.read
        return {(y, x) for y in range(w.y, w.y + 16) for x in range(w.x, w.x + 16) if valid[y, x]}

    assert leak.pixels == sum(len(pixels(a) & pixels(b)) for a in chips[:12] for b in chips[12:]) > 0
    assert leak.distance == 0
    assert not leak.clean
    done = CliRunner().invoke(cli.app, ["chips", "leaks", str(store.folder)])
    assert done.exit_code == 1
    assert f"{leak.pixels:,} pixels in both" in done.output


def test_the_same_scene_at_two_sites_is_found(cube, tmp_path):
    chips = list(ChipGrid((96, 128), 32))
    leak = _leak(_store(tmp_path, [("a", cube, chips[:2], "train", {}), ("b", cube, chips[1:4], "test", {})]))
    assert leak.twins == ((1, 2),)
    assert leak.items
    assert "chips twice (1 and 2)" in str(leak)
    assert "items at several sites" in str(leak)


def test_sites_in_other_zones_are_compared_on_the_ground(cube, landsat, tmp_path):
    scenes = landsat.search()
    zone = geobox_of(cube).crs.epsg
    other = geomm.common_geobox(scenes, crs=f"EPSG:{zone + 1}")
    moved = geomm.load_cube(scenes, other, {n: geomm.Modality(cube[n].attrs["sensor"]) for n in STREAMS})
    whole = [(n, c, list(ChipGrid(tuple(geobox_of(c).shape), 32))) for n, c in (("a", cube), ("b", moved))]
    parts = [(site, c, chips, "train" if site == "a" else "test", {}) for site, c, chips in whole]
    leak = _leak(_store(tmp_path, parts))
    valid = _valid(cube)
    assert leak.pixels == pytest.approx(valid.sum(), rel=0.02)
    assert leak.distance == 0


def test_degrees_are_metres_where_they_lie(tmp_path, landsat):
    """At 60 degrees north a degree east is half as far as one north."""
    folder = tmp_path / "scene"
    write_scene(folder, "landsat-tirs-l1", crs="EPSG:4326", resolution=1e-3, origin=(10.0, 60.0))
    scenes = geomm.build_catalog(
        folder, tmp_path / "catalog", sensors=("landsat-tirs-l1",), datetime="2020-06-01"
    ).search()
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), {"thermal": geomm.Modality("landsat-tirs-l1")})
    at = [Chip(0, Window(y, x, 8, 8), Window(y, x, 8, 8)) for y, x in ((10, 10), (28, 10), (10, 33))]
    made = [
        StorePart("a", ChipReader(cube, chips, ["thermal"]), {"split": [name] * len(chips)})
        for name, chips in (("train", at[:1]), ("test", at[1:]))
    ]
    (leak,) = find_leaks(StoredChips(write_store(made, tmp_path / "store")))
    east = Geod(ellps="WGS84").inv(10.018, 59.99, 10.033, 59.99)[2]
    assert east < Geod(ellps="WGS84").inv(10.018, 59.982, 10.018, 59.972)[2]
    assert leak.distance == pytest.approx(east, rel=1e-3)


def test_speckled_masks_are_compared_pixel_by_pixel(cube, tmp_path):
    chips = [Chip(0, Window(0, x, 32, 32), Window(0, x, 32, 32)) for x in (0, 40)]
    store = _store(
        tmp_path, [("a", cube, [chip], name, {}) for chip, name in zip(chips, ("train", "test"), strict=True)]
    )
    masks = np.random.default_rng(3).random((2, 32, 32)) < 0.02
    store.usable = lambda index: masks[index]
    one, other = (np.argwhere(m) + np.array([0, x]) for m, x in zip(masks, (0, 40), strict=True))
    gaps = np.maximum(np.abs(one[:, None] - other[None]) - 1, 0)
    size = abs(geobox_of(cube).affine.a)
    assert _leak(store).distance == pytest.approx(np.hypot(*gaps.T).min() * size, rel=2e-3)


def test_a_column_that_is_not_there_is_named(cube, tmp_path):
    store = _store(tmp_path, [("a", cube, [Chip(0, Window(0, 0, 8, 8), Window(0, 0, 8, 8))], "train", {})])
    assert find_leaks(store) == []
    with pytest.raises(PackageError, match="no column fold"):
        find_leaks(store, column="fold")
