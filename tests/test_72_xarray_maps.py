"""Maps as xarray: the pixels of the files, on the grid of the cube, for rioxarray, odc and folium."""

from __future__ import annotations

import datetime as dt
import re

import numpy as np
import pytest
import rasterio
import rioxarray
from affine import Affine
from odc.geo.geobox import GeoBox
from predicting import BANDS, CLASSES, SENSORS, save_model

import geomm
from geomm.cube import geobox_of
from geomm.errors import ConfigError, GridError
from geomm.prediction import maps as module
from geomm.types import LayerSpec, Modality, Prediction, Window

LAYERS = ("class", "probability", "confidence", "entropy")


@pytest.fixture(scope="module")
def made(landsat, tmp_path_factory):
    """A cube, a model, its map in memory and the same as files."""
    scenes = landsat.search(sensors=tuple(SENSORS.values()))
    streams = {n: Modality(SENSORS[n], BANDS[n] if n == "thermal" else ("B2", "B3", "B4")) for n in BANDS}
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), streams, chunks=64)
    folder = tmp_path_factory.mktemp("maps")
    save_model(folder / "model")
    package = geomm.load_package(folder / "model")
    settings = geomm.PredictSettings(32, 16, 64, layers=LAYERS, weights=True)
    told = []
    maps = geomm.predict_map(cube, package, settings, on_block=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 1
    source = geomm.Provenance(dt.datetime(2020, 6, 1, tzinfo=dt.UTC), (), "mlm.json", "ab")
    product = geomm.write_products(
        geomm.predict(cube, package, settings), geobox_of(cube), folder / "out", name="m", source=source
    )
    return cube, package, maps, product


def test_it_holds_what_the_files_hold(made):
    cube, _, maps, product = made
    assert set(maps.data_vars) == set(product.files) == {*LAYERS, "weight"}
    for name, path in product.files.items():
        with rasterio.open(path) as file:
            values = maps[name].to_numpy()
            np.testing.assert_array_equal(values if values.ndim == 3 else values[None], file.read())
            assert maps[name].dtype == file.dtypes[0]
            assert tuple(maps[name].odc.geobox.affine) == tuple(file.transform)
            np.testing.assert_equal(float(maps[name].odc.nodata), file.nodata)
            np.testing.assert_equal(float(maps[name].rio.nodata), file.nodata)
        assert maps[name].odc.geobox == cube["optical"].to_dataset().odc.geobox
    assert maps["class"].dims == ("y", "x")
    assert maps["class"].attrs["flag_values"].dtype == np.uint8
    assert maps["class"].attrs["flag_values"].tolist() == [c.value for c in CLASSES]
    assert maps["class"].attrs["flag_meanings"] == "class_0 class_1 class_2 class_3"
    assert maps["class"].attrs["flag_colors"].split() == [c.color for c in CLASSES]
    assert maps["probability"].dims == ("class_name", "y", "x")
    assert maps["probability"].class_name.to_numpy().tolist() == [c.name for c in CLASSES]
    assert maps["weight"].modality.to_numpy().tolist() == list(BANDS)


def test_rioxarray_writes_it(made, tmp_path):
    _, _, maps, product = made
    for name in ("class", "probability"):
        maps[name].rio.to_raster(tmp_path / f"{name}.tif")
        with rasterio.open(tmp_path / f"{name}.tif") as one, rasterio.open(product.files[name]) as other:
            np.testing.assert_array_equal(one.read(), other.read())
            assert (one.crs, one.transform) == (other.crs, other.transform)
            np.testing.assert_equal(one.nodata, other.nodata)
    with rioxarray.open_rasterio(tmp_path / "class.tif") as back:
        np.testing.assert_array_equal(back.to_numpy()[0], maps["class"].to_numpy())
    one = maps["probability"].sel(class_name="class 1")
    one.rio.to_raster(tmp_path / "one.tif")
    with rasterio.open(tmp_path / "one.tif") as file:
        np.testing.assert_array_equal(file.read(1), one.to_numpy())


def test_folium_shows_it_offline(made):
    _, _, maps, _ = made
    table = np.zeros((256, 4), np.uint8)
    for c in CLASSES:
        table[c.value] = (*c.rgb, 255)
    for map_ in (
        maps["class"].odc.explore(tiles=None),
        maps["class"].odc.explore(tiles=None, cmap=table),
        maps["probability"].sel(class_name="class 1").odc.explore(tiles=None, vmin=0, vmax=1),
    ):
        assert re.search(r"L\.imageOverlay\(\s*\"data:image/png;base64,", map_.get_root().render())


def test_zarr_keeps_it(made, tmp_path):
    import xarray as xr

    _, _, maps, _ = made
    maps.to_zarr(tmp_path / "maps.zarr", consolidated=False)
    back = xr.open_zarr(tmp_path / "maps.zarr", consolidated=False, mask_and_scale=False)
    for name in maps.data_vars:
        np.testing.assert_array_equal(back[name].to_numpy(), maps[name].to_numpy())
    assert back["class"].attrs["flag_meanings"] == maps["class"].attrs["flag_meanings"]


GEOBOX = GeoBox((4, 6), Affine(10, 0, 5e5, 0, -10, 4e6), "EPSG:32632")


def test_streams_of_any_layers():
    scaled = LayerSpec("probability", "probability", "uint8", 255, ("a b", "c"), classes=CLASSES[:2], scale=0.004)
    heat = LayerSpec("heat", "continuous", "float32", float("nan"), ("open water",))
    other = LayerSpec("other", "continuous", "int16", -1, ("u", "v"))
    stored = np.array([250, 255], np.uint8)[:, None, None] * np.ones((1, 4, 3), np.uint8)
    arrays = {
        "probability": stored,
        "heat": np.full((1, 4, 3), 2, np.float32),
        "other": np.ones((2, 4, 3), np.int16),
    }
    maps = geomm.to_xarray([(Window(0, 3, 4, 3), Prediction(arrays, (scaled, heat, other)))], GEOBOX)
    assert maps["probability"].dtype == np.float32
    np.testing.assert_allclose(maps["probability"][0, :, 3:], 1.0)
    assert np.isnan(maps["probability"][1]).all()
    assert np.isnan(maps["probability"][:, :, :3]).all()
    assert (maps["heat"].dims, maps["heat"].attrs["long_name"]) == (("y", "x"), "open water")
    assert np.isnan(maps["heat"][:, :3]).all()
    assert (maps["heat"][:, 3:] == 2).all()
    assert maps["other"].band.to_numpy().tolist() == ["u", "v"]
    assert (maps["other"][:, :, :3] == -1).all()
    assert maps["x"].to_numpy()[0] == 5e5 + 5


def test_refusals(made, monkeypatch):
    cube, package, _, _ = made
    with pytest.raises(ConfigError, match="no block"):
        geomm.to_xarray([], GEOBOX)
    heat = LayerSpec("heat", "continuous", "float32", float("nan"), ("open water",))
    block = Prediction({"heat": np.zeros((1, 4, 4), np.float32)}, (heat,))
    with pytest.raises(GridError, match="outside of the grid"):
        geomm.to_xarray([(Window(0, 4, 4, 4), block)], GEOBOX)
    monkeypatch.setattr(module, "free_bytes", lambda: 1000)
    with pytest.raises(ConfigError, match="write_products"):
        geomm.predict_map(cube, package)
