"""Products: valid, georeferenced, coloured, published whole or not at all."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import xml.etree.ElementTree as ET

import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from geomm.errors import OutputError
from geomm.export import Provenance, write_products
from geomm.tasks import get_task
from geomm.types import ClassSpec, Window

CLASSES = (ClassSpec(0, "clear <sky>", "#3f7f4f"), ClassSpec(1, "cirrus", "#9ecae1"), ClassSpec(5, "cloud", "#f7f7f7"))
SOURCE = Provenance(
    dt.datetime(2020, 6, 1, 10, tzinfo=dt.UTC), ("https://example.com/item.json",), "model/mlm.json", "ab" * 32
)
GEOBOX = GeoBox((700, 900), Affine(30, 0, 452475, 0, -30, 3408645), "EPSG:32616")


def _scores(shape, seed=0):
    raw = np.random.default_rng(seed).random((3, *shape), np.float32)
    return raw / raw.sum(0)


def _stream(shape, size=512):
    task, scores = get_task("segmentation", CLASSES), _scores(shape)
    valid = np.ones(shape, bool)
    valid[:5] = False
    for y in range(0, shape[0], size):
        for x in range(0, shape[1], size):
            window = Window(y, x, min(size, shape[0] - y), min(size, shape[1] - x))
            yield window, task.decode(scores[(slice(None), *window.slices)], valid[window.slices])


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return write_products(_stream((700, 900)), GEOBOX, tmp_path_factory.mktemp("out"), name="clouds", source=SOURCE)


def test_cogs_are_strictly_valid(product):
    for path in product.files.values():
        assert cog_validate(path, strict=True) == (True, [], [])


def test_class_map_has_pixels_colours_names_and_nodata(product):
    with rasterio.open(product.files["class"]) as file:
        codes = np.array([0, 1, 5], np.uint8)[_scores((700, 900)).argmax(0)]
        codes[:5] = 255
        np.testing.assert_array_equal(file.read(1), codes)
        assert (file.nodata, file.dtypes, file.descriptions) == (255, ("uint8",), ("class",))
        assert file.colormap(1)[1] == (0x9E, 0xCA, 0xE1, 255)
        assert file.colorinterp[0].name == "palette"
        assert file.tags()["GEOMM_MODEL_SHA256"] == "ab" * 32
        assert file.overviews(1)
        small = file.read(1, out_shape=(350, 450))
        assert set(np.unique(small)) <= {0, 1, 5, 255}
    names = [e.text or "" for e in ET.parse(f"{product.files['class']}.aux.xml").iter("Category")]
    assert names == ["clear <sky>", "cirrus", "", "", "", "cloud"]


def test_styles_name_exactly_the_classes(product):
    style = ET.parse(product.files["class"].with_suffix(".qml"))
    entries = {e.get("value"): (e.get("label"), e.get("color")) for e in style.iter("paletteEntry")}
    assert entries == {"0": ("clear <sky>", "#3f7f4f"), "1": ("cirrus", "#9ecae1"), "5": ("cloud", "#f7f7f7")}
    ramp = ET.parse(product.files["probability"].with_suffix(".qml"))
    assert [r.get("type") for r in ramp.iter("rasterrenderer")] == ["singlebandpseudocolor"]


def test_probability_map_is_float_with_nan(product):
    with rasterio.open(product.files["probability"]) as file:
        assert file.descriptions == ("clear <sky>", "cirrus", "cloud")
        assert np.isnan(file.nodata)
        values = file.read()
        assert np.isnan(values[:, :5]).all()
        np.testing.assert_array_equal(values[:, 5:], _scores((700, 900))[:, 5:])


def test_item_describes_the_files(product):
    item = json.loads(product.item.read_text())
    asset = item["assets"]["class"]
    payload = product.files["class"].read_bytes()
    assert asset["file:checksum"] == "1220" + hashlib.sha256(payload).hexdigest()
    assert asset["file:size"] == len(payload)
    assert [c["name"] for c in asset["classification:classes"]] == ["clear <sky>", "cirrus", "cloud"]
    assert item["properties"]["proj:code"] == "EPSG:32616"
    assert item["properties"]["proj:shape"] == [700, 900]
    assert item["properties"]["datetime"] == "2020-06-01T10:00:00Z"
    assert {link["rel"] for link in item["links"]} == {"derived_from", "mlm:model"}
    import pystac

    assert pystac.Item.from_dict(item).assets["probability"].href == "./clouds-probability.tif"


def test_same_input_gives_the_same_bytes_whatever_the_blocks(product, tmp_path):
    other = write_products(_stream((700, 900), 128), GEOBOX, tmp_path / "x", name="clouds", source=SOURCE)
    assert {k: p.read_bytes() for k, p in other.files.items()} == {k: p.read_bytes() for k, p in product.files.items()}
    assert other.item.read_bytes() == product.item.read_bytes()


@settings(max_examples=100)
@given(
    st.sampled_from(["EPSG:32632", "EPSG:32733", "EPSG:4326", "EPSG:3035"]),
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.integers(1, 40),
    st.integers(1, 40),
    st.floats(0.5, 3),
)
def test_pixels_lie_where_pyproj_says(tmp_path_factory, crs, dx, dy, height, width, zoom):
    there = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = there.transform(
        9.0 + dx if crs != "EPSG:32733" else 15.0 + dx, (48.0 if crs != "EPSG:32733" else -20.0) + dy
    )
    step = (1e-4 if crs == "EPSG:4326" else 10.0) * zoom
    geobox = GeoBox((height, width), Affine(step, 0, x, 0, -step, y), crs)
    task = get_task("segmentation", CLASSES)
    stream = [(Window(0, 0, height, width), task.decode(_scores((height, width)), np.ones((height, width), bool)))]
    product = write_products(stream, geobox, tmp_path_factory.mktemp("grid"), name="p", source=SOURCE)
    with rasterio.open(product.files["class"]) as file:
        to_degrees = pyproj.Transformer.from_crs(file.crs.to_wkt(), "EPSG:4326", always_xy=True)
        back = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
        px, py = file.xy(height - 1, width - 1)
        ex, ey = x + (width - 0.5) * step, y - (height - 0.5) * step
        gx, gy = back.transform(*to_degrees.transform(px, py))
        assert abs(gx - ex) / step < 1e-6
        assert abs(gy - ey) / step < 1e-6


def _failing():
    yield from list(_stream((700, 900)))[:2]
    raise RuntimeError("the model broke")


def test_a_broken_stream_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="the model broke"):
        write_products(_failing(), GEOBOX, tmp_path / "a" / "b", name="clouds", source=SOURCE)
    assert list(tmp_path.iterdir()) == []


def test_an_older_product_survives_a_broken_run(tmp_path):
    before = write_products(_stream((700, 900)), GEOBOX, tmp_path, name="clouds", source=SOURCE)
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(RuntimeError):
        write_products(_failing(), GEOBOX, tmp_path, name="clouds", source=SOURCE)
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files
    assert before.item.exists()


def test_refusals(tmp_path):
    with pytest.raises(OutputError, match="not a safe file name"):
        write_products([], GEOBOX, tmp_path, name="../evil", source=SOURCE)
    with pytest.raises(OutputError, match="nothing to write"):
        write_products([], GEOBOX, tmp_path / "new", name="clouds", source=SOURCE)
    wrong = [(Window(0, 0, 9, 9), next(iter(_stream((700, 900))))[1])]
    with pytest.raises(OutputError, match="does not fit its layer"):
        write_products(wrong, GEOBOX, tmp_path / "new", name="clouds", source=SOURCE)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_products(_stream((700, 900)), GEOBOX, tmp_path / "file" / "x", name="clouds", source=SOURCE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]
