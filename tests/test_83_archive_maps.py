"""Archives mapped for years: nothing stale is used again, nothing is made twice, nothing odd ends in a traceback."""

from __future__ import annotations

import json
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import torch
from affine import Affine
from odc.geo.geobox import GeoBox
from predicting import BANDS, CLASSES, SENSORS, make_cube, save_model

from geomm.cube import ground_size
from geomm.errors import ConfigError, ContractError, OutputError
from geomm.export import read_zones
from geomm.export.item import footprint_of
from geomm.export.spool import Spool
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.package import InputContract, check_scale, save_package
from geomm.pipeline.apply import MapOptions, predict_source
from geomm.pipeline.identity import of_blocks
from geomm.pipeline.jobs import find_jobs
from geomm.prediction import Member, PredictSettings, fitted_settings, predict_blocks, predictor_of_module
from geomm.prediction.predictor import Predictor
from geomm.testing import IdentityDecoder, write_scene
from geomm.train import Fitted
from geomm.transforms import Normaliser
from geomm.types import LayerSpec, Modality, Prediction, Window

FAST = MapOptions(size=64, halo=16, precision="fp32", layers=("class",))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    for n, bands in BANDS.items():
        write_scene(folder, SENSORS[n], bands=bands, shape=(150, 160))
    return folder


def mapped(model, scenes, out, options=FAST):
    return predict_source(model, scenes, out, datetime="2020-06-01", options=options)


def test_what_is_there_is_not_made_again(model, scenes, tmp_path, monkeypatch):
    (first,) = mapped(model, scenes, tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}

    def never(*_, **__):
        raise AssertionError("predicted again")

    with monkeypatch.context() as patch:
        patch.setattr("geomm.prediction.predict", never)
        assert mapped(model, scenes, tmp_path) == [first]
        assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
        for other in (replace(FAST, polygons=True), replace(FAST, layers=("class", "entropy")), replace(FAST, halo=32)):
            with pytest.raises(AssertionError, match="predicted again"):
                mapped(model, scenes, tmp_path, other)
    content = first.files["class"].read_bytes()
    first.files["class"].write_bytes(content[:-9])  # damaged: made again
    mapped(model, scenes, tmp_path)
    assert first.files["class"].read_bytes() == content


def test_an_older_product_leaves_nothing_behind(model, scenes, tmp_path):
    mapped(model, scenes, tmp_path, replace(FAST, polygons=True, layers=("class", "confidence")))
    assert (tmp_path / "scene-polygons.gpkg").exists()
    (tmp_path / "notes.txt").write_text("mine")
    mapped(model, scenes, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "notes.txt",
        "scene-class.qml",
        "scene-class.tif",
        "scene-class.tif.aux.xml",
        "scene.json",
        "scene.png",
    ]
    (tmp_path / "other").mkdir()
    mapped(model, scenes, tmp_path / "other")
    (tmp_path / "other" / "scene-class.tif").unlink()
    (tmp_path / "other" / "scene-class.tif").mkdir()
    with pytest.raises(OutputError, match="a folder stands where a file goes"):
        mapped(model, scenes, tmp_path / "other", replace(FAST, halo=32))
    assert (tmp_path / "other" / "scene.json").exists()


def test_blocks_are_known_by_all_that_decides_them(model, scenes, cube, tmp_path):
    settings = PredictSettings()
    wanted = cube.drop_nodes("label")
    same = of_blocks(wanted, [model], settings)
    assert of_blocks(wanted, [model], settings) == same
    fitted, contract = model.model(), model.contract
    shifted = Normaliser(
        {n: tuple(v + 0.1 for v in m) for n, m in fitted.normaliser.mean.items()}, fitted.normaliser.std
    )
    others = [
        save_package(replace(fitted, normaliser=shifted), contract, tmp_path / "a", name="test"),
        save_package(replace(fitted, temperature=2.0), contract, tmp_path / "b", name="test"),
        save_package(
            fitted,
            replace(contract, classes=tuple(replace(c, value=c.value + 9) for c in CLASSES)),
            tmp_path / "c",
            name="test",
        ),
    ]
    assert {p.sha256 for p in others} == {model.sha256}  # the same weights
    assert len({same, *(of_blocks(wanted, [p], settings) for p in others)}) == 4
    scaled = wanted.copy()
    scaled["optical"] = scaled["optical"].to_dataset().assign_coords(scale=scaled["optical"]["scale"] * 2)
    assert of_blocks(scaled, [model], settings) != same
    hidden = wanted.copy()
    hidden["optical"] = hidden["optical"].to_dataset().assign(valid=hidden["optical"]["valid"] & False)
    assert of_blocks(hidden, [model], settings) != same


def test_a_cube_that_was_written_anew_is_another(model, scenes, tmp_path):
    (job,) = find_jobs(model, scenes, datetime="2020-06-01")
    cube = job.cube(model)
    maps = []
    for factor in (1, 2):
        changed = cube.copy()
        changed["optical"] = changed["optical"].to_dataset().assign(data=changed["optical"]["data"] // factor)
        changed.to_zarr(tmp_path / "my site.zarr", mode="w", consolidated=False)
        (product,) = predict_source(model, tmp_path / "my site.zarr", tmp_path / "maps", options=FAST)
        assert product.item.name == "my-site.json"
        maps.append(product.files["class"].read_bytes())
    assert maps[0] != maps[1]
    with pytest.raises(ConfigError, match="mapped as it is"):
        predict_source(model, tmp_path / "my site.zarr", tmp_path / "maps", aoi=(0, 0, 1, 1), options=FAST)


def test_modalities_of_one_sensor_are_both_loaded(scenes, tmp_path):
    bands = {"colours": ("B2", "B3"), "red": ("B4",)}
    torch.manual_seed(0)
    network = MultimodalModel(ModelSpec({n: len(b) for n, b in bands.items()}, 4, width=8)).eval()
    normaliser = Normaliser(
        {n: (0.3,) * len(b) for n, b in bands.items()}, {n: (0.2,) * len(b) for n, b in bands.items()}
    )
    streams = {n: Modality("landsat-oli-l1", b) for n, b in bands.items()}
    contract = InputContract(streams, dict.fromkeys(bands, "reflectance"), CLASSES, 30.0, 32, 16, tuple(bands))
    package = save_package(Fitted(network, normaliser, ()), contract, tmp_path / "m", name="two")
    (product,) = mapped(package, scenes, tmp_path / "maps")
    assert product.files["class"].exists()


@pytest.mark.filterwarnings("ignore:The Sentinel-2 processing baseline")
def test_quality_bands_make_pixels_invalid(tmp_path):
    bands = ("B02", "B03", "B04")
    for n, names in {"sentinel2-l2a": (*bands, "SCL")}.items():
        write_scene(tmp_path / "s", n, bands=names, shape=(80, 80), resolution=10.0)
    with rasterio.open(tmp_path / "s" / "scene_SCL.tif", "r+") as file:
        classes = np.full((80, 80), 4, file.dtypes[0])
        classes[:40] = 9  # cloud
        file.write(classes, 1)
    network = MultimodalModel(ModelSpec({"s2": 3}, 4, width=8)).eval()
    contract = InputContract({"s2": Modality("sentinel2-l2a", bands)}, {"s2": "reflectance"}, CLASSES, 10.0, 32, 16)
    package = save_package(
        Fitted(network, Normaliser({"s2": (0.2,) * 3}, {"s2": (0.1,) * 3}), ()), contract, tmp_path / "m", name="s2"
    )
    (product,) = mapped(package, tmp_path / "s", tmp_path / "maps")
    with rasterio.open(product.files["class"]) as file:
        codes = file.read(1)
    assert (codes[:40] == 255).all()
    assert (codes[44:] != 255).mean() > 0.99  # a dark pixel may be nodata


def test_pixels_of_another_size_are_refused(model, scenes, tmp_path):
    with pytest.raises(ContractError, match=r"300 m on the ground; the model was trained at 30 m"):
        mapped(model, scenes, tmp_path / "maps", replace(FAST, resolution=300.0))
    assert not (tmp_path / "maps").exists()
    check_scale(model.contract, 31.0)
    check_scale(replace(model.contract, resolution=30 / 111_320), 30.0)
    for crs, step, metres in (("EPSG:32632", 10.0, 10.0), ("EPSG:4326", 1e-4, 9.6), ("EPSG:2263", 32.8, 10.0)):
        there = {"EPSG:32632": (5e5, 5e6), "EPSG:4326": (9.0, 45.0), "EPSG:2263": (1e6, 2e5)}[crs]
        grid = GeoBox((100, 100), Affine(step, 0, there[0], 0, -step, there[1]), crs)
        assert ground_size(grid) == pytest.approx(metres, rel=0.03)


def test_names_with_dots_keep_their_files_apart(model, scenes, tmp_path):
    (job,) = find_jobs(model, scenes, datetime="2020-06-01")
    zones = geopandas.GeoDataFrame(geometry=[shapely.box(5e5, 3.996e6, 5.03e5, 3.999e6)], crs=32632)
    from geomm.pipeline.apply import map_cube

    for name in ("S2.v1", "S2.v2"):
        options = replace(FAST, polygons=True, zones=zones)
        map_cube([model], job.cube(model), job.scenes, tmp_path, name, lambda *_: None, options=options)
    for name in ("S2.v1", "S2.v2"):
        for kind in ("polygons", "zones"):
            for suffix in ("gpkg", "parquet"):
                assert (tmp_path / f"{name}-{kind}.{suffix}").exists()


def test_zones_with_awkward_columns_are_written(model, scenes, tmp_path):
    box = shapely.box(5e5, 3.996e6, 5.03e5, 3.999e6)
    table = geopandas.GeoDataFrame(
        {"fid": ["a", "a"], "Class": [1, 2], "geom": [0.5, 1.5], "share_x": [1, "b"], "ok": [3, 4]},
        geometry=[box, box.buffer(100)],
        crs=32632,
    )
    table.astype({"share_x": str}).to_parquet(tmp_path / "zones.PARQUET")
    zones = read_zones(tmp_path / "zones.PARQUET")
    assert list(zones.columns) == ["zone_fid", "zone_Class", "zone_geom", "zone_share_x", "ok", "geometry"]
    mapped(model, scenes, tmp_path / "maps", replace(FAST, zones=zones))
    found = geopandas.read_file(tmp_path / "maps" / "scene-zones.gpkg", layer="classes")
    assert {"zone_fid", "class", "pixels", "mapped"} <= set(found.columns)
    (tmp_path / "zones.csv").write_text("a,b\n1,2\n")
    for path in ("zones.csv", "none.gpkg"):
        with pytest.raises(ConfigError, match=r"zones (are not polygons|cannot be read)"):
            read_zones(tmp_path / path)


def test_straight_lines_in_degrees_stay_straight(model, scenes, tmp_path):
    """A rectangle of degrees wider than the scene holds all of it, whatever its corners become in the map's CRS."""
    zones = geopandas.GeoDataFrame({"k": [0]}, geometry=[shapely.box(5, 36.0, 13, 36.2)], crs=4326)
    mapped(model, scenes, tmp_path / "maps", replace(FAST, zones=zones))
    found = geopandas.read_parquet(tmp_path / "maps" / "scene-zones.parquet")
    assert found["pixels"][0] == 150 * 160
    assert found["mapped"][0] < 0.01  # most of the zone is beyond the map


def test_options_that_do_not_go_together_are_refused(model, scenes, tmp_path):
    for options, message in (
        (replace(FAST, layers=("probability",), polygons=True), "made of the class map"),
        (replace(FAST, size=0), "chip size is too small"),
        (replace(FAST, halo=-1), "margin is too small"),
        (replace(FAST, threads=0), "number of threads is too small"),
        (replace(FAST, device="nonsense"), "device is not here"),
        (replace(FAST, device="cuda:7"), "device is not here"),
    ):
        with pytest.raises(ConfigError, match=message):
            mapped(model, scenes, tmp_path / "maps", options)
        assert not (tmp_path / "maps").exists()


def test_footprints_are_cut_at_the_antimeridian_and_hold_the_pole():
    across = GeoBox((100, 100), Affine(1000, 0, 750000, 0, -1000, 200000), "EPSG:32660")
    geometry, bbox = footprint_of(across)
    assert (geometry["type"], bbox[0] > bbox[2]) == ("MultiPolygon", True)
    polar = GeoBox((100, 100), Affine(10000, 0, -500000, 0, -10000, 500000), "EPSG:3413")
    assert footprint_of(polar)[1][3] == 90.0
    plain = GeoBox((100, 100), Affine(10, 0, 5e5, 0, -10, 4e6), "EPSG:32632")
    assert footprint_of(plain)[0]["type"] == "Polygon"


def test_blocks_that_are_not_whole_are_made_again(tmp_path):
    layer = LayerSpec("value", "continuous", "float32", float("nan"), ("v",))
    grid = GeoBox((40, 60), Affine(10, 0, 5e5, 0, -10, 4e6), "EPSG:32632")
    windows = [Window(0, 0, 40, 30), Window(0, 30, 40, 30)]
    spool = Spool(tmp_path, grid, {})
    for w in windows:
        spool.write(w, Prediction({"value": np.random.rand(1, *w.shape).astype("f4")}, (layer,)))
    spool.check()
    assert Spool(tmp_path, grid, {}).done == set(windows)
    path = tmp_path / "value-0-30-40-30.tif"
    path.write_bytes(path.read_bytes()[:100])
    half = Spool(tmp_path, grid, {})
    assert half.done == {windows[0]}
    with pytest.raises(OutputError, match="do not cover the grid.*missing 1200"):
        half.check()
    half.write(Window(0, 20, 40, 40), Prediction({"value": np.zeros((1, 40, 40), "f4")}, (layer,)))
    with pytest.raises(OutputError, match="twice 400"):
        half.check()
    for odd in (replace(layer, name="../x"), replace(layer, dtype="complex64")):
        with pytest.raises(OutputError, match="a layer cannot be written"):
            Spool(tmp_path / "none", grid, {}).write(windows[0], Prediction({odd.name: np.zeros((1, 40, 30))}, (odd,)))


def test_networks_that_answer_otherwise_are_refused(cube):
    chosen = PredictSettings(32, 16, 32, 1, precision="fp32", layers=("class",))
    for network, message in (
        (torch.nn.Conv2d(3, 5, 1), r"got \(1, 5, 96, 96\); wanted \(B, 4, 96, 96\)"),
        (torch.nn.Conv2d(3, 4, 4, 4), r"got \(1, 4, 24, 24\)"),
    ):
        predictor = predictor_of_module(network, ["optical"], CLASSES, chosen)
        with pytest.raises(ContractError, match=message):
            list(predict_blocks(cube, predictor, chosen))


def test_ensembles_have_the_widest_margin_of_their_models(tmp_path):
    one, two = (
        Member(save_model(tmp_path / f"m{h}", size=s, halo=h), PredictSettings()) for s, h in ((32, 16), (64, 32))
    )
    for members in ([one, two], [two, one]):
        chosen = fitted_settings(members, (90, 90), PredictSettings())
        assert (chosen.size, chosen.halo) == (64, 32)


def test_threads_are_given_back_after_an_error():
    before = torch.get_num_threads()

    def broken(batch):
        raise ValueError("a broken step")

    predictor = Predictor(broken, IdentityDecoder(), ("m",))
    settings = PredictSettings(16, 0, 16, threads=before + 1)
    with pytest.raises(ValueError, match="a broken step"):
        list(predict_blocks(make_cube(np.ones((64, 64), np.uint16)), predictor, settings))
    assert torch.get_num_threads() == before


def test_items_carry_what_they_are_made_of(model, scenes, tmp_path):
    (product,) = mapped(model, scenes, tmp_path)
    item = json.loads(product.item.read_text())
    assert len(item["properties"]["geomm:identity"]) == 16
