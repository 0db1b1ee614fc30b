"""Products as other programs see them: Debian's GDAL and QGIS, and the schemas of STAC, all offline."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import rasterio
import referencing
from predicting import BANDS, CLASSES, SENSORS, save_model
from rio_cogeo import cog_validate

from geomm.pipeline.apply import MapOptions, predict_source
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
    options = MapOptions(layers=LAYERS, polygons=True, weights=True, size=64, halo=16)
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


@pytest.mark.skipif(qgis_python() is None, reason="QGIS (package python3-qgis) is not installed")
def test_qgis_opens_everything_styled(maps, tmp_path):
    script = [qgis_python(), str(HERE / "qgis_look.py"), str(maps.item.parent), str(tmp_path)]
    environment = {"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    run = subprocess.run(script, capture_output=True, text=True, check=False, env=environment, timeout=180)
    lines = [line for line in run.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, run.stderr[-2000:]
    found = json.loads(lines[0][6:])
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
    polygons = next(v for k, v in found.items() if k.endswith(".gpkg"))
    assert (polygons["valid"], polygons["crs"], polygons["renderer"]) == (True, "EPSG:32632", "categorizedSymbol")
    assert polygons["legend"] == [[c.name, c.color] for c in CLASSES]
    assert polygons["features"] > 0


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
