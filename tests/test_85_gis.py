"""Products as other programs see them: Debian's GDAL and QGIS, and the schemas of STAC, all offline."""

from __future__ import annotations

import datetime as dt
import json
import re
import shutil
import subprocess
from pathlib import Path

import geopandas
import jsonschema
import numpy as np
import pytest
import rasterio
import referencing
import shapely
import torch
from affine import Affine
from batches import write_archive, write_composites
from odc.geo.geobox import GeoBox
from predicting import BANDS, CLASSES, SENSORS, save_model
from rio_cogeo import cog_validate

import geomm
from geomm import Chip, ChipReader, Modality, Prompts, Provenance, StoredChips, StorePart, Target, Window, radiometry
from geomm.export import write_products
from geomm.export.chips import export_chips
from geomm.export.style import VIRIDIS
from geomm.grounding.heat import Heat
from geomm.pipeline.apply import MapOptions, predict_source
from geomm.pipeline.gallery import write_hits
from geomm.tasks.maps import ClassMaps
from geomm.testing import write_scene

HERE = Path(__file__).parent
LAYERS = ("class", "probability-uint8", "confidence", "entropy")


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """A folder of all kinds of products of one scene of 700 x 600 pixels."""
    folder = tmp_path_factory.mktemp("gis")
    for n, bands in BANDS.items():
        write_scene(folder / "scene", SENSORS[n], bands=bands, shape=(700, 600))
    model = save_model(folder / "model")
    with rasterio.open(next((folder / "scene").glob("*.tif"))) as file:
        left, top, crs = file.bounds.left, file.bounds.top, file.crs
    shapes = [shapely.box(x, top - 3000, x + 3000, top - 300) for x in (left + 300, left - 9000)]  # one lies outside
    zones = geopandas.GeoDataFrame({"field": ["a", "b"]}, geometry=shapes, crs=crs)
    options = MapOptions(layers=LAYERS, polygons=True, zones=zones, weights=True, size=64, halo=16)
    (product,) = predict_source(model, folder / "scene", folder / "maps", datetime="2020-06-01", options=options)
    return product


def qgis_python():
    found = "/usr/bin/python3"
    if not Path(found).exists():
        return None
    probe = subprocess.run(
        [found, "-c", "import qgis.core"], capture_output=True, check=False, env={"PATH": "/usr/bin"}
    )
    return found if probe.returncode == 0 else None


def test_cogs_are_strictly_valid(maps):
    assert set(maps.files) == {"class", "probability", "confidence", "entropy", "weight"}
    for path in maps.files.values():
        assert cog_validate(path, strict=True) == (True, [], [])


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo (package gdal-bin) is not installed")
def test_an_older_gdal_reads_them(maps):
    """Debian's GDAL, which shares nothing with the one inside rasterio."""
    for name, path in maps.files.items():
        said = subprocess.run(["gdalinfo", "-json", str(path)], capture_output=True, text=True, check=True)
        about = json.loads(said.stdout)
        assert about["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
        assert 'ID["EPSG",32632]' in about["coordinateSystem"]["wkt"]
        assert about["size"] == [600, 700]
        with rasterio.open(path) as file:
            assert about["geoTransform"] == list(file.transform.to_gdal())
            assert [b["description"] for b in about["bands"]] == list(file.descriptions)
        band = about["bands"][0]
        assert [o["size"] for o in band["overviews"]]
        if name == "class":
            assert band["noDataValue"] == 255
            assert band["colorInterpretation"] == "Palette"
            text = subprocess.run(["gdalinfo", str(path)], capture_output=True, text=True, check=True).stdout
            assert [line.split(": ")[1] for line in text.splitlines() if re.match(r" +\d+: class", line)] == [
                c.name for c in CLASSES
            ]
            assert band["colorTable"]["entries"][1][:3] == list(CLASSES[1].rgb)
        if name == "probability":
            assert (band["scale"], band["type"], band["noDataValue"]) == (0.004, "Byte", 255)


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """A folder of all other kinds of files that are made for a GIS."""
    folder = tmp_path_factory.mktemp("more")
    shape = (300, 200)
    geobox = GeoBox(shape, Affine(30, 0, 5e5, 0, -30, 5e6), "EPSG:32632")
    source = Provenance(dt.datetime(2020, 6, 1, tzinfo=dt.UTC))
    y, x = np.mgrid[: shape[0], : shape[1]] / np.array(shape).reshape(2, 1, 1)
    good = y > 0.05
    heat = Heat("open water").decode(np.stack([np.exp(-40 * ((y - 0.5) ** 2 + (x - 0.5) ** 2))]), good)
    write_products([(Window(0, 0, *shape), heat)], geobox, folder / "heat", name="s-open-water", source=source)
    asked = Prompts.of("a lake", "a town", "a forest").classes
    decoder = ClassMaps(asked, ("class", "probability"))
    scores = torch.from_numpy(np.stack([y < 1 / 3, (y >= 1 / 3) & (y < 2 / 3), y >= 2 / 3])[None].astype(np.float32))
    said = decoder.decode(decoder.pack(scores)[0].numpy(), good)
    write_products([(Window(0, 0, *shape), said)], geobox, folder / "prompts", name="s-prompts", source=source)
    catalog = write_archive(folder / "scenes", [0])
    result = geomm.run_batch(geomm.load_batch(write_composites(folder, catalog)), folder / "batch")
    assert "DONE" in {u.state for u in result.units}  # a tile that touches the scene is left out
    shutil.rmtree(folder / "scenes")  # imagery of others
    boxes = [shapely.box(9 + k / 9, 45, 9.1 + k / 9, 45.1) for k in range(3)]
    hits = geopandas.GeoDataFrame({"id": ["a", "b", "c"], "score": [0.9, 0.5, 0.1]}, geometry=boxes, crs="EPSG:4326")
    for name in ("hits.gpkg", "hits.geojson"):
        write_hits(folder / "hits" / name, hits)
    bands = {"landsat-oli-l1": ("B2", "B3", "B4", "B5"), "landsat-tirs-l1": ("B10",), "landsat-bqa": ()}
    for sensor, names in bands.items():
        write_scene(folder / "scene", sensor, bands=names, shape=(64, 96))
    scenes = geomm.build_catalog(folder / "scene", folder / "c", sensors=tuple(bands), datetime="2020-06-01").search()
    streams = {"optical": "landsat-oli-l1", "thermal": "landsat-tirs-l1", "label": "landsat-bqa"}
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), {n: Modality(s) for n, s in streams.items()})
    windows = [Window(0, 0, 48, 48), Window(0, 48, 48, 48)]
    chips = [Chip(k, w, w) for k, w in enumerate(windows)]
    target = Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)
    reader = ChipReader(cube, chips, ("optical", "thermal"), target=target)
    columns = {"split": ["train", "test"]}
    store = geomm.write_store([StorePart("site", reader, columns)], folder / "store")
    export_chips(StoredChips(store), folder / "chips")
    shutil.rmtree(folder / "scene")
    return folder


@pytest.fixture(scope="module")
def seen(more, tmp_path_factory):
    """What QGIS makes of it."""
    if qgis_python() is None:
        pytest.skip("QGIS (package python3-qgis) is not installed")
    return look(more, tmp_path_factory.mktemp("pictures"))


def look(folder, pictures):
    script = [qgis_python(), str(HERE / "qgis_look.py"), str(folder), str(pictures)]
    environment = {"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin", "HOME": str(pictures)}
    run = subprocess.run(script, capture_output=True, text=True, check=False, env=environment, timeout=180)
    lines = [line for line in run.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, run.stderr[-2000:]
    return json.loads(lines[0][6:])


def test_qgis_shows_heat_and_prompted_classes(seen):
    heat = seen["s-open-water-heat.tif"]
    assert (heat["renderer"], heat["bands"]) == ("singlebandpseudocolor", ["Band 1: open water"])
    values = [v for v, _ in heat["samples"] if v is not None]
    colours = {c for v, c in heat["samples"] if v is not None}
    assert len(colours) > 2
    assert dict(heat["samples"])[min(values)] == "#440154"  # what has little of it is all alike
    classes = seen["s-prompts-class.tif"]
    assert classes["renderer"] == "paletted"
    assert [label for label, _ in classes["legend"]] == ["a lake", "a town", "a forest"]
    colours = dict(enumerate(colour for _, colour in classes["legend"]))
    assert all(colours[value] == colour for value, colour in classes["samples"] if value is not None)


def test_qgis_shows_composites_of_an_archive(seen):
    median, anomaly, count = (
        min(
            (v for k, v in seen.items() if k.endswith(f"-{n}.tif")),
            key=lambda v: [s for s, _ in v["samples"]].count(None),
        )
        for n in ("median", "anomaly", "count")
    )
    for about, low, high in ((median, "250 K", "320 K"), (anomaly, "0", "6"), (count, "0", "1")):
        assert (about["valid"], about["renderer"]) == (True, "singlebandpseudocolor")
        assert [label for label, _ in about["legend"]][:: len(about["legend"]) - 1] == [low, high]
    inside = [(v, c) for v, c in median["samples"] if v is not None]
    assert inside
    assert all(250 < v < 320 for v, _ in inside)
    assert {c for v, c in count["samples"] if v is not None} == {"#fde725"}


def test_qgis_shows_hits_by_score_with_their_rank(seen):
    for name in ("hits.gpkg|hits", "hits.geojson"):
        about = seen[name]
        assert (about["valid"], about["crs"], about["features"]) == (True, "EPSG:4326", 3)
        assert (about["renderer"], about["labels"]) == ("graduatedSymbol", "rank")
        assert [colour for _, colour in about["legend"]] == list(VIRIDIS)
        assert about["legend"][0][0] == "0.1 - 0.233"
        assert about["drawn"] != "#ffffff"


def test_qgis_shows_chips_in_natural_colours(seen, more):
    optical, thermal = seen["000000_optical.tif"], seen["000000_thermal.tif"]
    assert (optical["renderer"], optical["shown"]) == ("multibandcolor", [3, 2, 1])
    assert optical["bands"][3].endswith("B5")
    assert optical["corner"] == thermal["corner"] == "#ffffff"  # masked
    colours = [c for v, c in optical["samples"] if v is not None]
    with rasterio.open(more / "chips" / "000000_optical.tif") as file:
        stored = file.read()
    scale = next(b for b in geomm.SENSORS["landsat-oli-l1"].bands if b.name == "B4").calibration
    for k, colour in enumerate(colours[1:9], start=2):
        y, x = (int(48 * k / 12.37), int(48 * k / 12.37))
        wanted = [255 * (stored[b, y, x] * scale.scale + scale.offset) / 0.4 for b in (2, 1, 0)]
        got = [int(colour[n : n + 2], 16) for n in (1, 3, 5)]
        np.testing.assert_allclose(got, np.clip(wanted, 0, 255), atol=2)
    assert thermal["renderer"] == "singlebandpseudocolor"
    assert len({c for _, c in thermal["samples"]}) > 2
    assert [label for label, _ in seen["000000_target.tif"]["legend"]] == ["label 0", "label 1", "label 2"]
    manifest = seen["chips.gpkg|chips"]
    assert (manifest["renderer"], manifest["features"]) == ("categorizedSymbol", 2)
    assert [label for label, _ in manifest["legend"]] == ["test", "train"]


@pytest.mark.skipif(qgis_python() is None, reason="QGIS (package python3-qgis) is not installed")
def test_qgis_opens_everything_styled(maps, tmp_path):
    found = look(maps.item.parent, tmp_path)
    names = {name: path.name for name, path in maps.files.items()}
    classes = found[names["class"]]
    assert (classes["valid"], classes["crs"], classes["renderer"]) == (True, "EPSG:32632", "paletted")
    assert classes["legend"] == [[c.name, c.color] for c in CLASSES]
    colours = {float(c.value): c.color for c in CLASSES}
    inside = [(value, colour) for value, colour in classes["samples"] if value is not None]
    assert len(inside) > 5
    assert all(colours[value] == colour for value, colour in inside)
    for name in ("probability", "confidence", "entropy", "weight"):
        about = found[names[name]]
        assert (about["valid"], about["crs"], about["renderer"]) == (True, "EPSG:32632", "singlebandpseudocolor")
        assert all(value is None or 0 <= value <= 1 for value, _ in about["samples"])
        seen = [(value, colour) for value, colour in about["samples"] if value is not None]
        low, high = min(seen), max(seen)
        assert low[1] != high[1] or high[0] - low[0] < 0.02, f"{name} is drawn in one colour"
    assert [n.split(": ")[1] for n in found[names["probability"]]["bands"]] == [c.name for c in CLASSES]
    polygons, zones = (
        next(v for k, v in found.items() if k.endswith(f"-{n}.gpkg|classes")) for n in ("polygons", "zones")
    )
    assert (polygons["valid"], polygons["crs"], polygons["renderer"]) == (True, "EPSG:32632", "categorizedSymbol")
    assert polygons["legend"] == [[c.name, c.color] for c in CLASSES]
    assert polygons["features"] > 0
    assert (zones["renderer"], zones["features"]) == ("categorizedSymbol", 2)
    assert [label for label, _ in zones["legend"]] == [*(c.name for c in CLASSES), "no class"]


def registry():
    """The schemas of STAC's core, which pystac ships, and what its extensions ask for, written down beside the tests."""
    import pystac

    shipped = Path(pystac.__file__).parent / "validation" / "jsonschemas"
    found = {}
    for path in [*shipped.rglob("*.json"), *(HERE / "schemas").glob("*.json")]:
        content = json.loads(path.read_text())
        found[content["$id"].rstrip("#")] = content
        if "item-spec" in content["$id"]:  # pystac's copy of common.json does not know its own name
            found[content["$id"].rpartition("/")[0] + f"/{path.name}"] = content
    pairs = [
        (uri, referencing.Resource.from_contents(c, default_specification=referencing.jsonschema.DRAFT7))
        for uri, c in found.items()
    ]
    return found, referencing.Registry().with_resources(pairs)


def test_items_are_valid_stac_offline(maps):
    item, (schemas, known) = json.loads(maps.item.read_text()), registry()
    core = next(uri for uri in schemas if uri.endswith("v1.1.0/item-spec/json-schema/item.json"))
    for uri in (core, *item["stac_extensions"]):
        assert uri in schemas, f"no schema of {uri} beside the tests"
        errors = list(jsonschema.Draft7Validator(schemas[uri], registry=known).iter_errors(item))
        assert not errors, f"{uri}: {errors[0].message} at {list(errors[0].absolute_path)}"


@pytest.mark.parametrize(
    ("spoil", "schema"),
    [
        (lambda i: i["properties"].update({"proj:code": 32632}), "projection"),
        (lambda i: i["assets"]["class"]["classification:classes"][0].update(color_hint="#ff0000"), "classification"),
        (lambda i: i["assets"]["class"].update({"file:checksum": "sha256"}), "file"),
        (lambda i: i["assets"]["probability"]["bands"][0].update({"raster:scale": "x"}), "raster"),
        (lambda i: i["properties"].update({"processing:software": []}), "processing"),
        (lambda i: i["assets"]["class"].pop("href"), "item-spec"),
    ],
)
def test_the_schemas_notice_what_is_wrong(maps, spoil, schema):
    item, (schemas, known) = json.loads(maps.item.read_text()), registry()
    spoil(item)
    core = next(uri for uri in schemas if uri.endswith("v1.1.0/item-spec/json-schema/item.json"))
    uri = next(u for u in (core, *item["stac_extensions"]) if schema in u)
    assert list(jsonschema.Draft7Validator(schemas[uri], registry=known).iter_errors(item))
