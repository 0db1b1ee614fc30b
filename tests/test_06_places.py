"""Wrong usages of catalogs, chips, splits, stores and texts: each is refused with its fix, or does what was meant."""

from __future__ import annotations

import datetime as dt
import re

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

import geomm
from geomm.errors import GeommError
from geomm.export.chips import export_chips

CLASSES = (geomm.ClassSpec(0, "clear", "#33a02c"), geomm.ClassSpec(1, "cirrus", "#1f78b4"))
SHARES = {"train": 0.5, "test": 0.5}
S = geomm.SpatialSplit
DATASET, GRID = geomm.ChipDataset, geomm.ChipGrid
DAY = dt.datetime(2020, 6, 1)  # noqa: DTZ001 as people give it


@pytest.fixture(scope="module")
def at(landsat, landsat_folder, cube, tmp_path_factory):
    """Return what the cases work on."""

    class At:
        catalog, files, root = landsat, landsat_folder, tmp_path_factory.mktemp("places")
        scenes = landsat.search()
        split = S.draw((96, 128), SHARES, block=32, buffer=4)

    At.cube, At.grid = cube, geomm.common_geobox(At.scenes)
    At.shape = tuple(At.grid.shape)
    At.box = At.scenes[0].bbox
    At.chips = GRID((96, 128), 32)
    At.data = DATASET(cube, At.chips, ["optical", "thermal"])
    part = geomm.StorePart("a", At.data, {"split": ["a"] * 6 + ["b"] * 6})
    At.store = geomm.StoredChips(geomm.write_store([part], At.root / "store"))
    At.labels = np.zeros((96, 128), np.uint8)
    At.counts = geomm.label_counts(At.labels, 32, 2)
    return At


def _data(at, chips=None, names=("optical",), **options):
    return DATASET(at.cube, at.chips if chips is None else chips, list(names), **options)


def _centred(at, centres, **options):
    return geomm.centred_chips(centres, (96, 128), 16, **options)


def _balanced(at, counts=None, cell=32, **options):
    return geomm.balanced_chips(at.counts if counts is None else counts, cell, (96, 128), 16, 4, **options)


CHIPS = {
    "split of another grid": (
        lambda a: _data(a, split=(S.draw((640, 640), SHARES, block=64, buffer=0), "train")), "E301", r"draw\(\(96, 128\)",
    ),
    "chips of another split": (
        lambda a: _data(a, a.split.tiles("test", 32), split=(a.split, "train")), "E401", r"tiles\('train', 32\)",
    ),
    "windows as chips": (lambda a: _data(a, [c.read for c in a.chips]), "E701", "ChipGrid"),
    "text as chips": (lambda a: _data(a, "chips"), "E701", "ChipGrid"),
    "swapped chips": (lambda a: DATASET(a.cube, ["optical"], a.chips), "E701", "modalities third"),
    "text of chips": (lambda a: _data(a, text="sea"), "E701", "lambda window: 'sea'"),
    "days as text": (lambda a: _data(a, within="1d"), "E701", "within=1"),
    "negative days": (lambda a: _data(a, within=-1), "E701", "at least 0"),
    "modalities as numbers": (lambda a: _data(a, names=(1, 2)), "E701", r"\['optical', "),
    "stream of 0": (lambda a: a.data.stream(0), "E701", "for example 16"),
    "batches of 0": (lambda a: geomm.ChipBatches([a.data], 0), "E701", "how many chips are in a batch"),
    "places as text": (lambda _: geomm.split_places("abc", SHARES), "E701", r'\["north", "south"\]'),
    "places that are scenes": (lambda a: geomm.split_places(a.scenes, SHARES), "E701", "s.id for s in scenes"),
    "shares over 1": (lambda _: geomm.split_places(["a", "b"], {"a": 0.8, "b": 0.4}), "E401", "'a': 0.667"),
    "shares in percent": (lambda _: geomm.split_places(["a", "b"], {"a": 80, "b": 20}), "E401", "'a': 0.8, 'b': 0.2"),
    "shares as text": (lambda _: S.draw((96, 128), {"a": "0.5", "b": "0.5"}, block=32, buffer=0), "E401", "'train': 0.7"),
    "counts of other blocks": (lambda a: S.draw((96, 128), SHARES, block=16, buffer=0, counts=a.counts), "E401", "labels, 16"),
    "labels as counts": (lambda a: S.draw((96, 128), SHARES, block=32, buffer=0, counts=a.labels), "E401", "label_counts"),
    "shape of an array": (lambda _: S.draw((1, 3, 96, 128), SHARES, block=32, buffer=0), "E701", r"shape\[-2:\]"),
    "grid as shape": (lambda a: S.draw(a.grid, SHARES, block=32, buffer=0), "E701", "grid.shape"),
    "grid for random chips": (lambda a: geomm.random_chips(a.grid, 16, 4), "E701", "grid.shape"),
    "shape as texts": (lambda _: GRID(("96", "128"), 32), "E701", r"\(1000, 1000\)"),
    "whole of 0": (lambda _: S.whole((96, 128), "train", 0), "E701", "block=512"),
    "seed below 0": (lambda _: geomm.random_chips((96, 128), 16, 4, seed=-1), "E701", "seed=0"),
    "labels of 3 axes": (lambda a: geomm.label_counts(a.labels[None], 32, 2), "E701", r"\[0, 0\]"),
    "labels that are shares": (lambda a: geomm.label_counts(a.labels + 0.5, 32, 2), "E701", "class indices"),
    "labels of words": (lambda _: geomm.label_counts([["a"]], 32, 2), "E701", "one band of one time"),
    "cell of 0": (lambda a: geomm.label_counts(a.labels, 0, 2), "E701", "for example 512"),
    "list of classes": (lambda a: geomm.label_counts(a.labels, 32, CLASSES), "E701", r"len\(classes\)"),
    "other cells": (lambda a: _balanced(a, cell=16), "E401", r"label_counts\(labels, 16"),
    "labels to balance": (lambda a: _balanced(a, a.labels), "E401", "label_counts"),
    "split without a name": (lambda a: _balanced(a, split=a.split), "E701", '"train"'),
    "name without a split": (lambda a: _balanced(a, split="train"), "E701", "SpatialSplit.draw"),
    "name misspelt": (lambda a: _balanced(a, split=(a.split, "tain")), "E101", "'train'"),
    "points in metres": (lambda a: _centred(a, [(500100.0, 3998000.0)]), "E701", "~grid.affine @"),
    "one pair": (lambda a: _centred(a, (10, 20)), "E701", r"\[\(row, column\), ...\]"),
    "points of shapely": (lambda a: _centred(a, [shapely.Point(1, 2)]), "E701", "~grid.affine @"),
    "points in a table": (lambda a: _centred(a, geopandas.GeoDataFrame(geometry=[shapely.Point(1, 2)])), "E701", "affine"),
    "point without a place": (lambda a: _centred(a, [(3, 4), (np.nan, 2)]), "E701", "point 1"),
    "jitter below 0": (lambda a: _centred(a, [(3, 4)], jitter=-3), "E701", "jitter=16"),
    "time as word": (lambda a: geomm.timed_chips(a.chips, ["yesterday"]), "E701", "2020-06-01T10:00"),
    "no time": (lambda a: geomm.timed_chips(a.chips, [pd.NaT]), "E701", "2020-06-01T10:00"),
    "swapped times": (lambda a: geomm.timed_chips([DAY], a.chips), "E701", "ChipGrid"),
}  # fmt: skip


def _build(at, **options):
    return geomm.build_catalog(at.files, at.root / "never", **options)


def _csv(at, text):
    (at.root / "texts.csv").write_text(text)
    return geomm.read_annotations(at.root / "texts.csv")


def _append(at, when, lon=9.0):
    table = geopandas.GeoDataFrame({"id": ["a"], "datetime": [when]}, geometry=[shapely.Point(lon, 36)], crs=4326)
    return geomm.Index.create(at.root / f"index{lon}", 4).append(np.ones((1, 4)), table)


def _load(scenes, sensor):
    return geomm.load_cube(scenes, geomm.common_geobox(scenes), {"o": geomm.Modality(sensor)})


P = geomm.catalog.ReadPolicy
CATALOGS = {
    "clouds from to": (lambda a: a.catalog.search(cloud_cover=(0, 20)), "E201", "cloud_cover=20"),
    "swapped search": (lambda a: a.catalog.search("2020-06-01", (9, 36, 10, 37)), "E201", "area comes first"),
    "band as text": (lambda a: a.scenes[0].only("B2"), "E701", r"\['B2'\]"),
    "sensors as records": (
        lambda a: a.catalog.search(sensors=[geomm.SENSORS["landsat-oli-l1"]]), "E201", r"\['landsat-oli-l1'\], the .name",
    ),
    "built of records": (lambda a: _build(a, sensors=[geomm.SENSORS["generic"]]), "E201", r"\['generic'\]"),
    "sensors as number": (lambda a: a.catalog.search(sensors=3), "E201", "list of names"),
    "definition as path": (lambda a: _build(a, definition="x.yaml"), "E701", r"open\('x.yaml'\)"),
    "key misspelt": (lambda a: _build(a, definition={"item": []}), "E701", "'items'"),
    "one item": (lambda a: _build(a, definition={"items": {"sensor": "generic"}}), "E701", "write a list"),
    "built of a file": (lambda a: geomm.build_catalog(a.files / "scene_B2.tif", a.root / "never"), "E201", "it lies in"),
    "policy as word": (lambda a: geomm.open_catalog(a.catalog.href, policy="open"), "E201", "ReadPolicy"),
    "table as catalog": (lambda a: geomm.open_catalog(a.root / "scenes.csv"), "E201", "stac-geoparquet"),
    "address as host": (lambda _: P(hosts=("https://x.org/",)), "E701", r"hosts=\['x.org'\]"),
    "path as host": (lambda _: P(hosts=("x.org/data",)), "E701", r"hosts=\['x.org'\]"),
    "folder of a bucket": (lambda _: P(hosts=("s3://data/",)), "E701", r"hosts=\['s3://data'\]"),
    "record as sensor": (lambda a: _load(a.scenes, geomm.SENSORS["landsat-oli-l1"]), "E701", '"landsat-oli-l1"'),
    "one root": (lambda _: P(roots="imagery"), "E701", "roots=\\['/data"),
    "date of a country": (lambda a: _append(a, "1.6.2020"), "E701", "2020-06-01"),
    "row without a place in an index": (lambda a: _append(a, "2020-06-01", np.nan), "E701", "row 0.*correct the batch"),
}  # fmt: skip


def _derive(at, fractions=((0.7, 0.3),), **options):
    return geomm.derive_annotations(list(fractions), [at.grid], CLASSES, **options)


TEXTS = {
    "window in metres": (lambda a: _derive(a).find((500100, 3998000, 502000, 3999500)), "E201", "metres.*to_crs"),
    "window upside down": (lambda a: _derive(a).find((9, 37, 10, 36)), "E201", r"\(9.0, 36.0, 10.0, 37.0\)"),
    "days of texts": (lambda a: _derive(a).find(a.box, "2020-06-01", within="a"), "E201", "within=1"),
    "time of a country": (lambda a: _derive(a).find(a.box, "1.6.2020"), "E201", "write 2020-06-01"),
    "interval of texts": (lambda a: _derive(a).find(a.box, "2020-06-01/2020-06-03"), "E201", "within=15"),
    "pixels of texts": (lambda a: _derive(a).find(a.chips[0].read), "E201", r"grid\[chip.read.slices\]"),
    "percent": (lambda a: _derive(a, [[70, 30]]), "E701", "0.7 for 70 percent"),
    "time of labels": (lambda a: _derive(a, time="yesterday"), "E201", "2024-05-31"),
    "texts of a scene": (lambda a: geomm.annotations_of(a.scenes[0]), "E701", r"\[scene\]"),
    "texts of a catalog": (lambda a: geomm.annotations_of(a.catalog), "E701", "catalog.search"),
    "texts in a list": (lambda _: geomm.Annotations.of(["sea"]), "E201", "GeoDataFrame"),
    "texts without places": (lambda _: geomm.Annotations.of(pd.DataFrame({"text": ["sea"]})), "E201", "points_from_xy"),
    "row without a place": (lambda a: _csv(a, "text,lon,lat\nsea,9,36\nland,,36\n"), "E201", r"texts.csv, line 3"),
    "word for a degree": (lambda a: _csv(a, "text,lon,lat\nsea,9E,36\n"), "E201", "line 2.*numbers of degrees"),
    "point without brackets": (lambda a: _csv(a, "text,wkt\nsea,POINT 9 36\n"), "E201", r"line 2.*POINT \(9"),
}  # fmt: skip


def _part(at, site="a", columns=()):
    return geomm.StorePart(site, at.data, dict(columns))


STORES = {
    "one part": (lambda a: geomm.write_store(_part(a), a.root / "s"), "E701", r"write_store\(\[StorePart"),
    "readers as parts": (lambda a: geomm.write_store([a.data.reader], a.root / "s"), "E701", r"write_store\(\[StorePart"),
    "cube as reader": (lambda a: geomm.StorePart("a", a.cube), "E701", "ChipDataset"),
    "swapped part": (lambda a: geomm.StorePart(a.data, "a"), "E701", r'StorePart\("north"'),
    "share as text": (lambda a: geomm.write_store([_part(a)], a.root / "s", share="0/4"), "E701", r"share=\(0, 4\)"),
    "swapped store": (lambda a: geomm.write_store(a.root / "s", [_part(a)]), "E701", "folder second"),
    "leaks of a folder": (lambda a: geomm.find_leaks(str(a.store.folder)), "E502", "StoredChips"),
    "two splits": (lambda a: a.store.select(split=["a", "b"]), "E502", "one at a time, split='a'"),
    "stored stream of 0": (lambda a: next(a.store.stream(0)), "E701", "for example 16"),
    "column of one text": (lambda a: _part(a, columns={"split": "train"}), "E701", r'\["train"\] \* 12'),
    "columns as list": (lambda a: geomm.StorePart("a", a.data, ["train"]), "E701", "by name"),
    "no such chip": (lambda a: geomm.StoredChips(a.store.folder, [99]), "E502", "12 chips"),
    "shuffle as word": (lambda a: geomm.ChipLoader(a.data, 4, shuffle="yes"), "E701", "shuffle=True"),
    "no folder": (lambda _: geomm.StoredChips(None), "E502", "folder of a store"),
    "export into itself": (lambda a: export_chips(a.store, a.store.folder / "tiles"), "E601", "name another folder"),
}  # fmt: skip


TABLE = CHIPS | CATALOGS | TEXTS | STORES


@pytest.mark.parametrize("name", TABLE)
def test_it_names_the_fix(name, at):
    use, code, fix = TABLE[name]
    with pytest.raises(GeommError) as caught:
        use(at)
    assert caught.value.code == code, str(caught.value)
    assert re.search(fix, str(caught.value)), str(caught.value)
    assert caught.value.fix
    assert len(str(caught.value)) < 700


def test_places_count_once():
    assert sorted(geomm.split_places(["a", "a", "b"], SHARES).values()) == ["test", "train"]


def test_counts_of_nothing_are_no_counts():
    nothing = np.zeros((3, 4, 2), int)
    drawn = S.draw((96, 128), SHARES, block=32, buffer=0, counts=nothing)
    assert drawn == S.draw((96, 128), SHARES, block=32, buffer=0)


@pytest.mark.parametrize("kind", [np.asarray, np.float32, bool, list, "torch", "xarray"])
def test_labels_of_any_kind_are_counted(kind):
    import torch
    import xarray

    labels = np.array([[0, 1], [1, 1]])
    made = {"torch": torch.as_tensor, "xarray": xarray.DataArray, bool: lambda x: x.astype(bool)}
    given = labels.tolist() if kind is list else made.get(kind, kind)(labels)
    assert geomm.label_counts(given, 2, 2).tolist() == [[[1, 3]]]


@pytest.mark.parametrize(
    "times",
    [["2020-06-01"], "2020-06-01", DAY, np.array(["2020-06-01"], "datetime64[ns]"),
     pd.DatetimeIndex(["2020-06-01"]), [pd.Timestamp("2020-06-01")]],
)  # fmt: skip
def test_times_of_any_kind(at, times):
    assert [c.time for c in geomm.timed_chips(at.chips[:1], times)] == [DAY]


@pytest.mark.parametrize("day", [DAY, pd.Timestamp("2020-06-01"), DAY.date(), "2020-06-01"])
def test_midnight_is_its_day(at, day):
    assert len(at.catalog.search(None, day)) == 3


def test_midnight_of_a_zone_is_an_instant(at):
    assert at.catalog.search(None, DAY.replace(tzinfo=dt.UTC)) == []


def test_a_catalog_is_built_at_a_datetime(at, tmp_path):
    when = dt.datetime(2020, 6, 1, 10, tzinfo=dt.UTC)
    made = geomm.build_catalog(at.files, tmp_path / "made", sensors=["landsat-oli-l1"], datetime=when)
    assert [s.time for s in made.search()] == [when]


def test_an_area_from_east_to_west_says_so(at):
    west, south, east, north = at.box
    with pytest.warns(UserWarning, match=rf"west and east exchanged.*Search \({west - 1:.1f}"):
        assert at.catalog.search((east + 1, south, west - 1, north)) == []


def test_loose_items_are_a_catalog(at, tmp_path):
    for item in at.catalog.items():
        item.make_asset_hrefs_absolute()
        item.save_object(include_self_link=False, dest_href=str(tmp_path / f"{item.id}.json"))
    (tmp_path / "other.json").write_text("{}")
    with (tmp_path / "vectors.geojson").open("wb") as large:  # not read, so that nobody sees what is wrong with it
        large.write(b'{"stac_version"')
        large.truncate(2**24 + 1)
    assert len(geomm.open_catalog(tmp_path).search()) == 3


def test_texts_of_a_swapped_window_say_so(at):
    west, south, east, north = at.box
    with pytest.warns(UserWarning, match=r"Did you swap them\? Give \(9.0"):
        assert _derive(at).find((south, west, north, east)) == ()


def test_texts_of_a_table_and_of_a_day(at):
    here = geopandas.GeoDataFrame(geometry=[shapely.box(500100, 3998000, 502000, 3999500)], crs="EPSG:32632")
    assert [n.text for n in _derive(at, time=DAY).find(here, DAY)] == ["mostly clear, some cirrus"]


def test_a_store_is_of_a_dataset_and_is_verified_as_it_is(at):
    assert len(at.store) == len(at.data) == 12
    assert geomm.verify_store(at.store) == []


def test_points_of_nan_are_no_places():
    points = geopandas.points_from_xy([9, np.nan], [36, 36])
    frame = geopandas.GeoDataFrame({"text": ["sea", "land"]}, geometry=points, crs="EPSG:32632")
    assert geomm.Annotations.of(frame).table["text"].tolist() == ["sea"]


def test_an_index_searched_from_east_to_west_says_so(at):
    index = geomm.Index.create(at.root / "east", 4)
    index.append(np.ones((1, 4)), geopandas.GeoDataFrame({"id": ["a"]}, geometry=[shapely.Point(9, 36)], crs=4326))
    with pytest.warns(UserWarning, match=r"west and east exchanged.*\(8.0, 35.0, 10.0, 37.0\)"):
        assert not len(index.search(np.ones(4), aoi=(10, 35, 8, 37)))
