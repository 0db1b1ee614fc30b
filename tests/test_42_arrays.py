"""Arrays of rioxarray and odc as cubes: what load_cube gives of the same files; and cubes out by their accessors."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from predicting import BANDS, SENSORS, save_model

import geomm
from geomm.cube import geobox_of
from geomm.errors import ConfigError, GridError, MissingBandError
from geomm.radiometry import Calibration
from geomm.types import Modality

STREAMS = {n: Modality(SENSORS[n], bands) for n, bands in BANDS.items()}
TIME = "2020-06-01T10:00:00Z"


def opened(folder, names, **options):
    parts = [rioxarray.open_rasterio(folder / f"scene_{b}.tif", **options) for b in names]
    return xr.concat(parts, "band", combine_attrs="override")


@pytest.fixture(scope="module")
def ours(landsat):
    scenes = landsat.search(sensors=tuple(SENSORS.values()))
    return geomm.load_cube(scenes, geomm.common_geobox(scenes), STREAMS, quality="ignore")


def same(a, b):
    for name in STREAMS:
        left, right = a[name].to_dataset(), b[name].to_dataset()
        assert set(left.variables) == set(right.variables)
        for key in left.variables:
            if key != "spatial_ref":
                assert left[key].dims == right[key].dims
                np.testing.assert_array_equal(left[key].to_numpy(), right[key].to_numpy(), err_msg=f"{name} {key}")
        for key in ("sensor", "units", "kind"):
            assert left.attrs[key] == right.attrs[key]
        assert geobox_of(left) == geobox_of(right)


@pytest.mark.parametrize("options", [{}, {"chunks": {"x": 64, "y": 64}}])
def test_files_opened_by_rioxarray_are_the_cube_that_is_loaded(landsat_folder, ours, options):
    arrays = {n: opened(landsat_folder, bands, **options) for n, bands in BANDS.items()}
    cube = geomm.from_xarray(arrays, STREAMS, time=TIME)
    assert all((cube[n]["data"].chunks is not None) == bool(options) for n in STREAMS)
    same(cube, ours)
    assert "optical: landsat-oli-l1, reflectance; 3 bands" in repr(cube)
    one = geomm.ChipDataset(cube, geomm.ChipGrid((96, 128), 32, 8), list(STREAMS))[1]
    other = geomm.ChipDataset(ours, geomm.ChipGrid((96, 128), 32, 8), list(STREAMS))[1]
    for name in STREAMS:
        for part in ("images", "valid", "calibration"):
            np.testing.assert_array_equal(getattr(one, part)[name].numpy(), getattr(other, part)[name].numpy())


def test_a_model_maps_them_alike(landsat_folder, ours, tmp_path):
    package = geomm.load_package(save_model(tmp_path / "model").path)
    cube = geomm.from_xarray({n: opened(landsat_folder, b, chunks=64) for n, b in BANDS.items()}, STREAMS, time=TIME)
    settings = geomm.PredictSettings(32, 16, 64, layers=("class", "probability"))
    xr.testing.assert_equal(geomm.predict_map(cube, package, settings), geomm.predict_map(ours, package, settings))


def test_a_cube_goes_round(ours):
    again = geomm.from_xarray({n: ours[n]["data"] for n in STREAMS}, STREAMS)
    same(again, ours)
    physical = geomm.calibrated(ours)
    floats = geomm.from_xarray({n: physical[n]["data"] for n in STREAMS}, STREAMS)
    for name in STREAMS:
        xr.testing.assert_allclose(geomm.calibrated(floats)[name]["data"], physical[name]["data"])
        assert (floats[name]["scale"] == 1).all()
        np.testing.assert_array_equal(floats[name]["valid"], ours[name]["valid"])


def test_many_shapes_of_arrays(landsat_folder):
    bands = opened(landsat_folder, ("B2", "B3"))
    plain = bands.isel(band=0, drop=True)
    cube = geomm.from_xarray({"a": plain, "b": bands}, time=TIME)
    assert (cube["a"]["data"].dims, cube["a"].attrs["sensor"]) == (("time", "band", "y", "x"), "generic")
    assert cube["b"]["band"].to_numpy().tolist() == ["1", "2"]
    assert cube["a"]["data"].shape == (1, 1, 96, 128)
    named = xr.Dataset({"B3": bands.isel(band=1, drop=True), "blue": plain})  # as odc.stac.load names them
    cube = geomm.from_xarray({"m": named}, {"m": Modality("landsat-oli-l1", ("B2", "B3"))}, time=TIME)
    np.testing.assert_array_equal(cube["m"]["data"].to_numpy()[0], bands.to_numpy())
    south_up = bands.isel(y=slice(None, None, -1))
    np.testing.assert_array_equal(geomm.from_xarray({"m": south_up}, time=TIME)["m"]["data"].to_numpy()[0], bands)
    geobox = bands.odc.geobox[8:40, 16:48]
    cut = geomm.from_xarray({"m": bands}, geobox=geobox, time=TIME)
    np.testing.assert_array_equal(cut["m"]["data"].to_numpy()[0], bands.to_numpy()[:, 8:40, 16:48])
    assert geobox_of(cut) == geobox
    days = xr.concat([bands, bands + 1], "time").assign_coords(time=np.array(["2020-06-01", "2020-06-17"], "M8[ns]"))
    both = geomm.from_xarray({"m": days, "dem": plain.astype("float32")}, {"dem": "copernicus-dem"})
    assert both["m"].sizes["time"] == 2
    assert both["dem"]["time"].to_numpy()[0] == np.datetime64("2020-06-01")
    assert both["dem"].attrs["units"] == "metre"


def test_nodata_in_every_form(landsat_folder):
    bands = opened(landsat_folder, ("B2", "B3")).astype("int16")
    missing = np.zeros((96, 128), bool)
    missing[10:20, 5] = True

    def valid(array, sensor="generic", **more):
        return geomm.from_xarray({"m": array}, {"m": sensor}, time=TIME, **more)["m"]["valid"].to_numpy()[0]

    holed = bands.where(~missing, np.int16(-999)).drop_attrs(deep=False)
    np.testing.assert_array_equal(valid(holed.assign_attrs(_FillValue=-999)), ~missing)
    np.testing.assert_array_equal(valid(holed.rio.write_nodata(-999)), ~missing)
    np.testing.assert_array_equal(valid(holed.astype("float32").where(~missing)), ~missing)
    assert valid(holed).all()
    zero = bands.where(~missing, np.int16(0)).drop_attrs(deep=False)
    np.testing.assert_array_equal(valid(zero, Modality("landsat-oli-l1", ("B2", "B3"))), (zero != 0).all("band"))


def test_the_quality_band_decides_too():
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_coords

    grid = GeoBox((4, 4), Affine(10, 0, 5e5, 0, -10, 4e6), "EPSG:32632")
    red = xr.DataArray(np.full((4, 4), 3000, np.uint16), xr_coords(grid), ("y", "x"))
    scl = xr.DataArray(np.repeat([4, 9, 0, 5], 4).reshape(4, 4).astype(np.uint8), xr_coords(grid), ("y", "x"))
    red[3, 3] = 0
    node = geomm.from_xarray({"m": xr.Dataset({"B04": red, "SCL": scl})}, {"m": "sentinel2-l2a"}, time=TIME)["m"]
    assert node["band"].to_numpy().tolist() == ["B04"]
    assert node["status"].to_numpy()[0].tolist() == [[4] * 4, [2] * 4, [2] * 4, [4, 4, 4, 1]]
    given = geomm.from_xarray(
        {"m": red}, {"m": Modality("sentinel2-l2a", ("B04",))}, time=TIME, calibration={"m": Calibration(1e-4, -0.1)}
    )
    assert geomm.calibrated(given)["m"]["data"].to_numpy()[0, 0, 0, 0] == np.float32(0.2)


def test_refusals(landsat_folder):
    bands = opened(landsat_folder, ("B2", "B3"))
    with pytest.raises(ConfigError, match="time of the imagery"):
        geomm.from_xarray({"m": bands})
    with pytest.raises(ConfigError, match="no array"):
        geomm.from_xarray({})
    with pytest.raises(ConfigError, match="cannot be understood"):
        geomm.from_xarray({"m": bands}, time="yesterday")
    with pytest.raises(ConfigError, match="a dimension too many"):
        geomm.from_xarray({"m": bands.expand_dims("level")}, time=TIME)
    with pytest.raises(GridError, match="no grid"):
        geomm.from_xarray({"m": xr.DataArray(np.zeros((4, 4)), dims=("y", "x"))}, time=TIME)
    for other in (
        bands.rio.reproject("EPSG:32633"),
        bands.assign_coords(x=bands.x + 5),
        bands.isel(x=slice(4, None)),
        bands.coarsen(x=2, y=2).mean(),
    ):
        with pytest.raises(GridError, match=r"not on the grid.*odc\.reproject"):
            geomm.from_xarray({"m": bands, "n": other}, time=TIME)
    with pytest.raises(MissingBandError, match="which band of m is which"):
        geomm.from_xarray({"m": bands}, {"m": "landsat-oli-l1"}, time=TIME)
    with pytest.raises(MissingBandError, match="which band of m is which"):
        geomm.from_xarray(
            {"m": bands.assign_coords(band=["B2", "B9"])}, {"m": Modality("landsat-oli-l1", ("B2", "B3"))}, time=TIME
        )


def test_out_by_rioxarray_and_odc(ours, tmp_path):
    data = ours["optical"]["data"].isel(time=0)
    assert data.rio.crs.to_epsg() == ours["optical"].to_dataset().odc.geobox.crs.epsg == 32632
    assert tuple(data.rio.transform()) == tuple(geobox_of(ours).affine)
    assert data.odc.geobox == geobox_of(ours)
    data.rio.to_raster(tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as file:
        np.testing.assert_array_equal(file.read(), data.to_numpy())
        assert file.transform == geobox_of(ours).affine
    physical = geomm.calibrated(ours)["thermal"]["data"].isel(time=0)
    physical.rio.to_raster(tmp_path / "t.tif")
    back = rioxarray.open_rasterio(tmp_path / "t.tif")
    np.testing.assert_array_equal(back, physical)
    again = geomm.from_xarray({"thermal": back}, {"thermal": STREAMS["thermal"]}, time=TIME)
    np.testing.assert_array_equal(again["thermal"]["valid"][0], np.isfinite(physical).all("band"))
