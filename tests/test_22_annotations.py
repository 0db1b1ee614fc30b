"""Text tied to place and time."""

from __future__ import annotations

import datetime as dt
import json

import geopandas
import numpy as np
import pystac
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geomm.annotations import annotations_of, derive_annotations, read_annotations, read_questions
from geomm.catalog.search import Catalog
from geomm.catalog.static import StaticSource
from geomm.errors import CatalogError
from geomm.types import ClassSpec

CLASSES = (ClassSpec(1, "water", "#0000ff"), ClassSpec(2, "trees", "#00ff00"))


@pytest.fixture
def notes(tmp_path):
    table = geopandas.GeoDataFrame(
        {"note": ["flood", "harvest", "always", None], "seen": ["2023-05-01", "2023-09-01T12:00:00+02:00", None, None]},
        geometry=[shapely.box(9, 46, 9.2, 46.2), shapely.box(9.1, 46.1, 9.3, 46.3), shapely.Point(9.15, 46.15), None],
        crs="EPSG:4326",
    )
    table.to_crs("EPSG:3857").to_parquet(tmp_path / "notes.parquet")
    return read_annotations(tmp_path / "notes.parquet", text="note", time="seen")


def test_join_by_place_and_time(notes):
    assert len(notes) == 3  # a row without text or place says nothing
    window = (9.1, 46.1, 9.2, 46.2)
    assert notes.at(window) == ("flood", "harvest", "always")
    assert notes.at(window, "2023-05-03", within=5) == ("flood", "always")
    found = notes.find((9.1, 46.1, 9.3, 46.2))
    assert [n.text for n in found] == ["harvest", "flood", "always"]
    assert [round(n.share, 3) for n in found] == [1.0, 0.5, 0.0]
    assert found[0].time == dt.datetime(2023, 9, 1, 10, tzinfo=dt.UTC)
    assert found[2].time is None
    assert not any(n.derived for n in found)
    assert notes.at((0, 0, 1, 1)) == ()


def test_join_to_a_window_of_a_cube(notes):
    grid = GeoBox((100, 100), Affine(20, 0, 500000, 0, -20, 5116000), "EPSG:32632")  # 9.0 to 9.026 E, 46.18 to 46.2 N
    assert notes.at(grid) == ("flood",)
    assert notes.at(grid[:10, :10]) == ("flood",) or notes.at(grid[:10, :10]) == ()
    assert notes.at(shapely.Point(9.15, 46.15).buffer(0.01)) == ("flood", "harvest", "always")


def test_windows_across_the_antimeridian():
    both = derive_annotations([[1.0, 0.0], [0.0, 1.0]], [(179.0, 0, 179.5, 1), (-179.5, 0, -179.0, 1)], CLASSES)
    assert set(both.at((178.0, 0.0, -178.0, 1.0))) == {"only water", "only trees"}
    with pytest.raises(CatalogError, match="instead of 4"):
        both.at((1, 2, 3))


def test_grids_across_the_antimeridian():
    fiji = derive_annotations(
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]],
        [(179.9, -17.1, 179.99, -17.0), (-179.99, -17.1, -179.9, -17.0), (0.0, -17.1, 0.1, -17.0)],
        CLASSES,
    )
    grid = GeoBox((400, 800), Affine(100, 0, 800000, 0, -100, 8130000), "EPSG:32760")
    assert sorted(fiji.at(grid)) == ["only trees", "only water"]


def test_shapes_that_cross_themselves_do_no_harm(tmp_path):
    bow = shapely.Polygon([(9, 46), (10, 47), (10, 46), (9, 47)])
    table = geopandas.GeoDataFrame({"text": ["bow"]}, geometry=[bow], crs="EPSG:4326")
    table.to_file(tmp_path / "bow.geojson")
    assert read_annotations(tmp_path / "bow.geojson").at((9.1, 46.4, 9.2, 46.6)) == ("bow",)


def test_derived_text_says_so(notes):
    made = derive_annotations(
        [[0.7, 0.3]], [(9.1, 46.1, 9.2, 46.2)], CLASSES, time=dt.datetime(2023, 6, 1, tzinfo=dt.UTC)
    )
    assert [(n.text, n.derived) for n in (notes + made).find((9.1, 46.1, 9.2, 46.2))][:3] == [
        ("flood", False), ("harvest", False), ("mostly water, some trees", True),
    ]  # fmt: skip


def test_descriptions_of_items():
    item = pystac.Item("a", shapely.geometry.mapping(shapely.box(9, 46, 10, 47)), [9, 46, 10, 47],
                       dt.datetime(2023, 5, 1, tzinfo=dt.UTC), {"description": "Ice on the lake"},
                       collection="sentinel-2-l2a")  # fmt: skip
    item.properties["s2:processing_baseline"] = "05.00"
    item.add_asset("red", pystac.Asset("a.tif", roles=["data"]))
    item.add_asset("scl", pystac.Asset("b.tif", roles=["data"]))
    scenes = Catalog("memory", StaticSource.of(item)).search()
    (note,) = annotations_of(scenes).find((9.5, 46.5, 9.6, 46.6), "2023-05-02", within=2)
    assert (note.text, note.source, note.share) == ("Ice on the lake", "a", pytest.approx(1.0))
    assert len(annotations_of([])) == 0


def test_questions_that_cannot_be_read(tmp_path):
    with pytest.raises(CatalogError, match=r"questions cannot be read.*FileNotFoundError"):
        read_questions(tmp_path, "train")
    for kind in ("images", "questions", "answers"):
        (tmp_path / f"train_{kind}.json").write_text(json.dumps({"other": []}))
    with pytest.raises(CatalogError, match=r"questions cannot be read.*KeyError"):
        read_questions(tmp_path, "train")


@pytest.mark.shared
def test_real_questions_and_answers(shared):
    low = sum((read_questions(shared / "text_rsvqa" / "LR", f"LR_split_{s}") for s in ("val", "test")),
              read_questions(shared / "text_rsvqa" / "LR", "LR_split_train"))  # fmt: skip
    assert len(low) == 1200
    assert set(low.table["answer"][low.table["text"] == "Is it a rural or an urban area"]) <= {"rural", "urban"}
    assert low.table["source"].nunique() == 12
    assert not low.table["derived"].any()
    assert (low.table["datetime"].dt.year >= 2015).all()
    first = low.table.iloc[0]
    x, y = first.geometry.centroid.coords[0]
    found = low.find((x - 0.001, y - 0.001, x + 0.001, y + 0.001), str(first.datetime), within=1)
    assert len(found) == 100
    assert {n.source for n in found} == {first.source}
    assert all(n.answer for n in found)
    high = read_questions(shared / "text_rsvqa" / "HR", "USGS_split_test_phili")
    assert len(high) == 201
    assert np.allclose(high.table.geometry.bounds.mean()[["minx", "miny"]], (-75.2, 40.0), atol=0.5)
