"""Streams of chips: every chip as the cube has it, each block decoded once, orders that can be resumed and shared."""

from __future__ import annotations

import datetime as dt
import logging

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

import geomm
from geomm.chipping import ChipReader, Target
from geomm.chips import Chip, ChipGrid, ChipOrder, SpatialSplit
from geomm.dataset import ChipDataset, ChipLoader, collate
from geomm.errors import ConfigError
from geomm.testing import CountingReader
from geomm.types import Window

LOG = logging.getLogger(__name__)  # figures: pytest --log-cli-level=INFO
SIDE = 1100
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, 600000, 0, -10, 5200020), "EPSG:32632")
STREAMS = {
    "optical": geomm.Modality("sentinel2-l1c", ("B04", "B11")),
    "sar": geomm.Modality("sentinel1-rtc", ("VV",)),
    "thermal": geomm.Modality("landsat-tirs-l1", ("B10",)),
    "label": geomm.Modality("landcover", ("class",)),
}
LAYOUT = {
    "s_B04": ("EPSG:32632", 10, (600000, 5200020), 1100, "uint16", 128),
    "s_B11": ("EPSG:32632", 20, (600000, 5200020), 550, "uint16", 128),
    "s_VV": ("EPSG:32632", 10, (599993, 5200033), 1104, "float32", 128),
    "s_B10": ("EPSG:32633", 30, (139000, 5210000), 800, "uint16", 128),
    "s_class": ("EPSG:32632", 10, (600000, 5200020), 1100, "uint8", 128),
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stream")
    generator = np.random.default_rng(0)
    for name, (crs, size, corner, side, dtype, block) in LAYOUT.items():
        values = generator.integers(1, 11 if name == "s_class" else 200, (side, side)).astype(dtype)
        values[:, -side // 9 :] = 0
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", height=side, width=side, count=1, dtype=dtype, crs=crs, nodata=0,
            transform=Affine(size, 0, corner[0], 0, -size, corner[1]), compress="deflate", tiled=True,
            blockxsize=block, blockysize=block,
        ) as file:  # fmt: skip
            file.write(values, 1)
    sensors = tuple(m.sensor for m in STREAMS.values())
    return geomm.build_catalog(folder, folder / "c", sensors=sensors, datetime="2023-06-01").search(sentinel2_offset=0)


def _cube(scenes, reader=None, **options):
    return geomm.load_cube(scenes, GRID, STREAMS, reader=reader, **options)


def _reader(cube, chips, **options):
    return ChipReader(
        cube, chips, ["optical", "sar", "thermal"], target=Target("label", tuple(range(1, 11))), **options
    )


def _padded(array, window, fill=0):
    """A window of an array that may reach outside of it: the plain way."""
    margin = 400
    wide = np.pad(array, [(0, 0)] * (array.ndim - 2) + [(margin, margin)] * 2, constant_values=fill)
    y, x = window.y + margin, window.x + margin
    return wide[..., y : y + window.height, x : x + window.width]


@pytest.fixture(scope="module")
def whole(scenes):
    return _cube(scenes).compute()


def _check(arrays, whole):
    for k, chip in enumerate(arrays.chips):
        for name in ("optical", "sar", "thermal"):
            node = whole[name]
            good = _padded(node.valid.to_numpy(), chip.read, False)
            np.testing.assert_array_equal(arrays.valid[name][k], good)
            data = _padded(node["data"].to_numpy(), chip.read)
            shown = np.broadcast_to(good[:, None], data.shape)
            np.testing.assert_array_equal(arrays.images[name][k][shown], data[shown])
        label = _padded(whole["label"]["data"].to_numpy()[0, 0], chip.read)
        np.testing.assert_array_equal(arrays.target[k], np.where(label > 0, label - 1, 255))


@pytest.mark.parametrize("shuffle", [0, 3])
@pytest.mark.parametrize("made", ["planned", "changed", "loaded"])
def test_every_chip_is_that_of_the_cube(scenes, whole, shuffle, made):
    cube = {
        "planned": _cube(scenes),
        "changed": _cube(scenes).isel(time=[0]) if made == "changed" else None,
        "loaded": whole,
    }[made]
    chips = list(ChipGrid((SIDE, SIDE), 120, halo=8))
    reader = _reader(cube, chips)
    seen = []
    for arrays in reader.stream(7, shuffle=shuffle, seed=3):
        seen += arrays.index.tolist()
        assert [chips[k] for k in arrays.index] == list(arrays.chips)
        _check(arrays, whole)
    assert sorted(seen) == list(range(len(chips)))
    if shuffle:
        assert seen != sorted(seen)
    _check(reader.read([0, 37, 99]), whole)


def test_blocks_are_decoded_once_in_grid_order_and_little_more_when_shuffled(scenes):
    chips = list(ChipGrid((SIDE, SIDE), 64))
    counts = {}
    for shuffle in (0, 2):
        reader = CountingReader()
        for _ in _reader(_cube(scenes, reader), chips).stream(8, shuffle=shuffle):
            pass
        counts[shuffle] = sum(reader.blocks.values()) / len(reader.blocks)
        assert reader._blocks._size < 2**20  # nothing is kept that nobody will ask for, but for rims
    assert counts[0] == 1.0
    assert counts[2] <= 2.0


def test_panels_that_are_joined_decode_each_block_once(scenes):
    """As stores are built: the grid is two panels wide, whose neighbouring blocks each needs."""
    chips = list(ChipGrid((SIDE, SIDE), 64))
    order = ChipOrder(tuple(chips), (SIDE, SIDE), area=128).epoch(0)
    assert {v.scope for v in order.visits} == {0, 1}
    decoded = []
    for itinerary in (order, order.joined(4)):
        reader = CountingReader()
        seen = [a.index for a in _reader(_cube(scenes, reader), chips).follow(itinerary, 8, shuffled=False, tidy=False)]
        np.testing.assert_array_equal(np.concatenate(seen), order.draws[:, 1])
        decoded.append(sum(reader.blocks.values()) / len(reader.blocks))
    assert decoded[0] > 1.0
    assert decoded[1] == 1.0


def test_where_pixels_lie_is_not_asked_of_proj_for_every_window(scenes, monkeypatch):
    """Counted: hashing a GeoBox writes its CRS out; sources of one grid are placed once for each window."""
    import pyproj

    reader = _reader(_cube(scenes), list(ChipGrid((SIDE, SIDE), 220)))
    reader.read([0])
    written, placed = [], []
    monkeypatch.setattr(pyproj.CRS, "to_wkt", lambda *_a, **_k: written.append(1) or "")
    monkeypatch.setattr("geomm.cube.place.axis_coordinates", _counted("geomm.cube.place.axis_coordinates", placed))
    arrays = reader.read(range(1, 13))
    assert len(arrays.chips) == 12
    assert not written
    assert len(placed) <= 12 * 3  # optics of 20 m, radar, heat; bands of 10 m are copied


def _counted(name, calls):
    from importlib import import_module

    module, _, attribute = name.rpartition(".")
    function = getattr(import_module(module), attribute)

    def counting(*args, **options):
        calls.append(args)
        return function(*args, **options)

    return counting


def test_nothing_is_read_before_the_first_batch_and_a_stream_can_be_left(scenes):
    reader = CountingReader()
    stream = _reader(_cube(scenes, reader), list(ChipGrid((SIDE, SIDE), 64))).stream(4)
    assert not reader.blocks
    next(stream)
    stream.close()
    assert len(reader.blocks) > 0
    assert not reader._expected._parts


orders = st.tuples(st.integers(1, 40), st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 5), st.integers(1, 5))


@settings(max_examples=60, deadline=None)
@given(orders, st.integers(0, 100))
def test_ranks_share_the_chips(drawn, seed):
    size, height, width, lanes, world = drawn
    chips = tuple(ChipGrid((height, width), max(size, height // 30, width // 30)))
    parts = [ChipOrder(chips, (height, width), lanes, seed, rank, world, area=256).epoch(1) for rank in range(world)]
    drawn = [p.draws[:, 1].tolist() for p in parts]
    assert set().union(*drawn) == set(range(len(chips)))
    if lanes == 0:
        assert sum(map(len, drawn)) == len(chips)
    elif len(chips) >= world:
        assert len({len(d) for d in drawn}) == 1
    for part in parts:
        for number, chip in part.draws:
            visit, read = part.visits[number], chips[chip].read.clip((height, width))
            assert visit.window.y <= read.y
            assert read.y + read.height <= visit.window.y + visit.window.height
            assert visit.window.x <= read.x
            assert read.x + read.width <= visit.window.x + visit.window.width


def test_few_areas_are_open_at_a_time():
    grid = ChipGrid((10980, 10980), 256)
    for lanes in (1, 4):
        order = ChipOrder(tuple(grid), grid.shape, lanes=lanes).epoch(0)
        last = {v: k for k, v in enumerate(order.draws[:, 0].tolist())}
        first = {v: k for k, v in reversed(list(enumerate(order.draws[:, 0].tolist())))}
        assert max(sum(first[v] <= k <= last[v] for v in first) for k in range(0, len(order.draws), 10)) <= lanes
        assert sorted(first, key=first.get) == list(range(len(order.visits)))


def test_shuffled_batches_mix_classes_nearly_as_a_full_shuffle_does():
    """Variance of the class shares of batches of 8 against that of a full shuffle, where areas hold little but one class.

    Theory: 1 + r (8 / lanes - 1), r the correlation of chips within an area, here nearly 1.
    """
    side, size = 10240, 256
    grid = ChipGrid((side, side), size)
    y, x = np.array([(c.write.y, c.write.x) for c in grid]).T / 2000.0
    waves = [np.sin(y * a + x * b + c) for a, b, c in ((1, 2, 0), (2, -1, 1), (0.5, 1.5, 2), (3, 1, 3))]  # 4 to 12 km
    share = np.exp(3 * np.stack(waves, 1))
    share /= share.sum(1, keepdims=True)
    mean = share.mean(0)

    def variance(order):
        groups = order[: len(order) // 8 * 8].reshape(-1, 8)
        return float(((share[groups].mean(1) - mean) ** 2).sum(1).mean())

    full = np.mean([variance(np.random.default_rng(s).permutation(len(grid))) for s in range(20)])
    ratio = {
        lanes: np.mean([variance(ChipOrder(tuple(grid), grid.shape, lanes, s).epoch(0).draws[:, 1]) for s in range(5)])
        / full
        for lanes in (1, 4, 8)
    }
    LOG.info("variance of batches of 8 against a full shuffle, by areas open at a time: %s", ratio)
    assert ratio[8] < 1.2
    assert ratio[4] < 2.2 < 4 < ratio[1]


def test_a_loader_goes_on_where_it_was(scenes):
    chips = list(ChipGrid((SIDE, SIDE), 100))
    dataset = ChipDataset(_cube(scenes), chips, ["sar"])
    every = [b.bounds for b in ChipLoader(dataset, 9, shuffle=3, seed=5)]
    first = ChipLoader(dataset, 9, shuffle=3, seed=5)
    begun = iter(first)
    some = [next(begun).bounds for _ in range(4)]
    state = first.state_dict()
    begun.close()
    second = ChipLoader(dataset, 9, shuffle=3)
    second.load_state_dict(state)
    rest = [b.bounds for b in second]
    assert all((a == b).all() for a, b in zip(every, some + rest, strict=True))
    assert second.state_dict() == first.state_dict() | {"epoch": 1, "done": 0}
    again = [b.bounds for b in second]
    assert not all((a == b).all() for a, b in zip(every, again, strict=True))


def test_worker_processes_share_a_loader(scenes):
    import torch

    chips = list(ChipGrid((SIDE, SIDE), 100))
    loader = ChipLoader(ChipDataset(_cube(scenes), chips, ["sar"]), 9)
    batches = list(torch.utils.data.DataLoader(loader, batch_size=None, num_workers=2))
    seen = sorted(tuple(row) for b in batches for row in b.bounds.tolist())
    assert seen == sorted(tuple(row) for b in loader for row in b.bounds.tolist())


def test_batches_of_a_loader_are_collated_samples(scenes):
    split = SpatialSplit.draw((SIDE, SIDE), {"train": 0.5, "test": 0.5}, block=200, buffer=20)
    dataset = ChipDataset(
        _cube(scenes), split.tiles("test", 100), ["optical", "thermal"], target=Target("label", (1, 2)),
        split=(split, "test"), text=lambda w: f"{w.y} {w.x}",
    )  # fmt: skip
    batch = next(iter(ChipLoader(dataset, 6)))
    numbers = dataset.reader.stream(6)
    expected = collate([dataset[k] for k in next(numbers).index.tolist()])
    for part in ("images", "valid", "calibration", "present"):
        for name, value in getattr(expected, part).items():
            assert (getattr(batch, part)[name].nan_to_num() == value.nan_to_num()).all()
    assert (batch.target == expected.target).all()
    assert (batch.index == next(dataset.reader.stream(6)).index).all()
    assert batch.text == expected.text


def test_a_look_at_the_first_batch_does_not_cut_the_next_pass(scenes):
    grid = list(ChipGrid((SIDE, SIDE), 100))
    loader = ChipLoader(ChipDataset(_cube(scenes), grid, ["optical"]), 5, shuffle=True)
    assert loader.shuffle == 8
    first = next(iter(loader)).index.tolist()
    seen = [batch.index.tolist() for batch in loader]
    assert seen[0] == first
    assert sorted(k for batch in seen for k in batch) == list(range(len(grid)))
    other = ChipLoader(loader.source, 6, shuffle=True)
    with pytest.raises(ConfigError, match="batch 5, here 6"):
        other.load_state_dict(loader.state_dict())


def test_chips_with_a_time_take_the_nearest_step(tmp_path):
    from geomm.testing import write_scene

    for day in (1, 5, 9):
        write_scene(tmp_path / f"d{day}", "sentinel1-rtc", shape=(64, 64), seed=day)
    scenes = [
        s
        for day in (1, 5, 9)
        for s in geomm.build_catalog(
            tmp_path / f"d{day}", tmp_path / f"c{day}", sensors=("sentinel1-rtc",), datetime=f"2023-06-0{day}"
        ).search()
    ]
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes))
    name = next(iter(cube.children))
    window = Window(0, 0, 64, 64)
    east = dt.timezone(dt.timedelta(hours=10))  # the same moments, in any zone
    moments = [dt.datetime(2023, 6, d, tzinfo=dt.UTC).astimezone(east) for d in (2, 8, 20)]
    reader = ChipReader(cube, [Chip(k, window, window, m) for k, m in enumerate(moments)], [name], within=3)
    for arrays in (reader.read([0, 1, 2]), next(reader.stream(3))):
        data = cube[name]["data"].to_numpy()
        good = arrays.valid[name]
        assert good[2].sum() == 0
        for k, step in ((0, 0), (1, 2)):
            shown = np.broadcast_to(good[k][:, None], arrays.images[name][k].shape)
            assert shown.any()
            np.testing.assert_array_equal(arrays.images[name][k][shown], data[[step]][shown])


def test_refusals(scenes):
    cube = _cube(scenes)
    with pytest.raises(ConfigError, match="none of the modalities"):
        ChipReader(cube, [], ["hyperspectral"])
    with pytest.raises(ConfigError, match="lacks the target"):
        ChipReader(cube, [], ["sar"], target=Target("roads", (1,)))
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        ChipOrder((), (5, 5), rank=2, world=2)
    small, large = Window(0, 0, 5, 5), Window(0, 0, 6, 6)
    with pytest.raises(ConfigError, match="differ in size"):
        ChipReader(cube, [Chip(0, small, small), Chip(1, large, large)], ["sar"]).read([0, 1])
    for batch in (0, 2.5):
        with pytest.raises(ConfigError, match="at least one chip"):
            ChipLoader(ChipDataset(cube, [], ["sar"]), batch)
    assert list(ChipLoader(ChipDataset(cube, [], ["sar"]), 4, shuffle=True)) == []
    with pytest.raises(ConfigError, match="at most 255 classes"):
        Target("label", tuple(range(256)))
    with pytest.raises(ConfigError, match="even number"):
        ChipGrid.overlapping((50, 50), 16, 5)
    grid = ChipGrid.overlapping((50, 50), 16, 4)
    assert {c.read.shape for c in grid} == {(16, 16)}
    assert grid[1].read.x - grid[0].read.x == 12
