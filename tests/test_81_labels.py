"""Labels drawn as polygons: rasterised right, refused with a reason, kept whole by splits; recipes on real labels."""

from __future__ import annotations

import warnings
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
import yaml
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import geomm
from geomm.config import ClassConfig, LabelConfig
from geomm.cube import geobox_of
from geomm.errors import CatalogError, ConfigError, GridError, SourceWarning, SplitError
from geomm.pipeline import labels as module
from geomm.pipeline.areas import check_classes, draw_whole
from geomm.pipeline.chips import build_chips
from geomm.pipeline.labels import AREA, check_places, label_node, read_polygons
from geomm.pipeline.sites import LABEL, load_sites, make_folds, target_of
from geomm.testing import ORIGIN

ROOT = Path(__file__).resolve().parents[1]
CRS = "EPSG:32617"
QUICK = {"train.steps": 3, "train.batch": 4, "train.seeds": [0], "chips.number": 24, "model.width": 4}
GRID = GeoBox.from_bbox((452000, 3407000, 453050, 3408000), CRS, resolution=25)  # 40 rows, 42 columns
TIME = np.datetime64("2020-06-01").astype("datetime64[s]").item()


def _label(polygons="p.geojson", **more):
    classes = [ClassConfig(value=v, name=n, color="#102030") for v, n in ((3, "forest"), (7, "water"), (9, "field"))]
    return LabelConfig(polygons=str(polygons), classes=classes, **more)


def _write(path, shapes, crs=CRS, column="class"):
    """Write polygons of ``(class, geometry)``; a class may be None."""
    geopandas.GeoDataFrame({column: [n for n, _ in shapes]}, geometry=[g for _, g in shapes], crs=crs).to_file(path)
    return path


def _star(random):
    """A polygon with a hole, at random within and beside the grid."""
    west, south, east, north = GRID.boundingbox.bbox
    at = np.array([random.uniform(west - 50, east + 50), random.uniform(south - 50, north + 50)])
    angle = np.sort(random.uniform(0, 2 * np.pi, 9))
    rim = at + random.uniform(60, 250, 9)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return shapely.Polygon(rim).buffer(0).difference(shapely.Point(at).buffer(30))


def _centres(grid):
    column, row = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    return grid.affine * (column, row)


def _inside(shapes, grid=GRID):
    """Which pixel centres lie in which polygon, one by one: ``(polygon, y, x)``."""
    x, y = _centres(grid)
    return np.stack([shapely.contains_xy(g, x, y) for _, g in shapes])


def _loaded(path, grid=GRID, **more):
    label = _label(path, **more)
    node = label_node(read_polygons(label, Path()), grid, label, TIME)
    return node.compute()


def _expected(shapes, grid=GRID):
    """Code of every pixel by the rule: that of the only class whose polygons hold its centre, else 255."""
    codes = {"forest": 3, "water": 7, "field": 9}
    held = _inside(shapes, grid)
    classes = {n: held[[k for k, (name, _) in enumerate(shapes) if name == n]].any(0) for n in codes}
    alone = sum(v.astype(int) for v in classes.values()) == 1
    return np.where(alone, sum(np.where(v, codes[n], 0) for n, v in classes.items()), 255)


# A pixel counts by its centre; a pixel of two classes has none.


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chunk", [512, 16])
def test_pixels_are_those_whose_centre_lies_in_a_polygon(tmp_path, monkeypatch, seed, chunk):
    monkeypatch.setattr(module, "CHUNK", chunk)  # in one piece or in many: the same
    random = np.random.default_rng(seed)
    shapes = [(str(random.choice(["forest", "water", "field"])), _star(random)) for _ in range(8)]
    node = _loaded(_write(tmp_path / "p.gpkg", shapes))
    wanted = _expected(shapes)
    assert {255} < set(np.unique(wanted))
    np.testing.assert_array_equal(node["data"].to_numpy()[0, 0], wanted)
    np.testing.assert_array_equal(node["valid"].to_numpy()[0], wanted != 255)
    np.testing.assert_array_equal(node[AREA].to_numpy() >= 0, wanted != 255)


def test_polygons_in_degrees_are_brought_to_the_grid(tmp_path):
    random = np.random.default_rng(1)
    there = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
    back = Transformer.from_crs("EPSG:4326", CRS, always_xy=True)
    shapes = [("water", _star(random)), ("forest", _star(random))]
    degrees = [(n, shapely.transform(g, there.transform, interleaved=False)) for n, g in shapes]
    wanted = [(n, shapely.transform(g, back.transform, interleaved=False)) for n, g in degrees]
    node = _loaded(_write(tmp_path / "p.geojson", degrees, crs="EPSG:4326"))
    np.testing.assert_array_equal(node["data"].to_numpy()[0, 0], _expected(wanted))
    assert node["valid"].any()


def test_overlaps_of_classes_are_unlabelled_those_of_one_class_are_one_area(tmp_path):
    def box(left, top, right, bottom):
        x, y = GRID.affine.c, GRID.affine.f
        return shapely.box(x + 25 * left, y - 25 * bottom, x + 25 * right, y - 25 * top)

    shapes = [
        ("forest", box(0, 0, 10, 10)),
        ("water", box(5, 5, 15, 15)),
        ("water", box(14, 5, 20, 8)),
        ("field", box(6, 6, 8, 8)),  # the third class where two are at odds already
        ("road", box(0, 0, 30, 30)),  # left out, and no obstacle
        ("forest", box(30, 30, 35, 35)),
    ]
    node = _loaded(_write(tmp_path / "p.gpkg", shapes), ignore=["road"])
    code, area = node["data"].to_numpy()[0, 0], node[AREA].to_numpy()
    assert (code[:10, :10][:5] == 3).all()
    assert (code[5:10, 5:10] == 255).all()
    assert (code[10:15, 5:15] == 7).all()
    assert code[20, 25] == 255
    assert np.unique(area[code == 7]).size == 1  # the second water goes on from the first
    assert np.unique(area[code == 3]).size == 2
    assert (area[code == 255] < 0).all()
    counts = dict(zip(*(v.tolist() for v in np.unique(code, return_counts=True)), strict=True))
    assert counts == {3: 75 + 25, 7: 75 + 15, 255: code.size - 190}


def test_parts_of_a_multipolygon_are_areas_and_odd_shapes_are_mended(tmp_path):
    x, y = GRID.affine.c, GRID.affine.f
    bow = shapely.Polygon([(x, y), (x + 250, y - 250), (x + 250, y), (x, y - 250)])  # crosses itself
    two = shapely.MultiPolygon([shapely.box(x + 500, y - 100, x + 600, y), shapely.box(x + 800, y - 100, x + 900, y)])
    node = _loaded(_write(tmp_path / "p.gpkg", [("forest", bow), ("water", two)]))
    code, area = node["data"].to_numpy()[0, 0], node[AREA].to_numpy()
    assert (code == 7).sum() == 2 * 16
    assert np.unique(area[code == 7]).size == 2
    assert 30 < (code == 3).sum() < 70


def test_the_node_is_lazy_and_like_those_of_imagery(tmp_path, cube):
    label = _label(_write(tmp_path / "p.gpkg", [("forest", shapely.box(*GRID.boundingbox.bbox))]))
    node = label_node(read_polygons(label, Path()), GRID, label, TIME)
    assert all(node[k].chunks is not None for k in ("data", "valid", AREA))
    like = cube["label"].to_dataset()
    for name in ("data", "valid"):
        assert node[name].dims == like[name].dims
    assert set(like.coords) - {"x", "y", "spatial_ref"} == set(node.coords)
    assert node["data"].dtype == np.uint8


# Mistakes are told.


def _box(name="forest"):
    return [(name, shapely.box(*GRID.boundingbox.bbox))]


@pytest.mark.parametrize(
    ("make", "more", "error", "message"),
    [
        (lambda p: None, {}, ConfigError, r"do not exist.*p\.gpkg.*relative to the recipe"),
        (lambda p: p.write_text("nothing"), {}, ConfigError, r"cannot be read.*p\.gpkg"),
        (
            lambda p: _write(p, _box(), column="kind"),
            {},
            ConfigError,
            r"no column 'class'.*they have kind.*label\.column",
        ),
        (lambda p: _write(p, _box(), crs=None), {}, GridError, "have no CRS"),
        (
            lambda p: _write(p, _box() + _box("rock") * 2 + _box(None)),
            {},
            ConfigError,
            r"\(empty\) \(1\), rock \(2\); named are forest, water, field.*label\.ignore",
        ),
        (lambda p: _write(p, _box("rock")), {"ignore": ["rock"]}, ConfigError, "no polygon of any class"),
        (lambda p: _write(p, _box() + _box("rock")), {"ignore": ["sand"]}, ConfigError, r"rock \(1\)"),
        (
            lambda p: _write(p, [("forest", shapely.Point(452100, 3407100))]),
            {},
            ConfigError,
            r"not polygons.*Point \(1\)",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, make, more, error, message):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        make(tmp_path / "p.gpkg")
    with pytest.raises(error, match=message):
        read_polygons(_label("p.gpkg", **more), tmp_path)


def test_names_may_be_numbers_or_left_out(tmp_path):
    table = geopandas.GeoDataFrame({"code": [1.0, 2.0, np.nan]}, geometry=[g for _, g in _box() * 3], crs=CRS)
    table.to_parquet(tmp_path / "p.parquet")
    classes = [ClassConfig(value=k, name=str(k), color="#102030") for k in (1, 2)]
    label = LabelConfig(polygons="p.parquet", column="code", ignore=[""], classes=classes)
    assert read_polygons(label, tmp_path)["kind"].tolist() == [0, 1]


def test_polygons_outside_every_site_are_reported(tmp_path):
    near, far = GRID.extent.geom, shapely.box(0, 0, 1000, 1000)
    label = _label(_write(tmp_path / "p.gpkg", [("forest", near), ("water", far)]))
    with pytest.warns(SourceWarning, match=r"1 of 2 labelled areas .* outside every site: water \(1\)"):
        check_places(read_polygons(label, Path()), {"a": GRID}, label)
    label = _label(_write(tmp_path / "q.gpkg", [("water", far)]))
    with pytest.raises(GridError, match=r"no polygon lies in any site.*the sites are a"):
        check_places(read_polygons(label, Path()), {"a": GRID}, label)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polygons": "p.geojson"}, "label: .*give either sensor or polygons"),
        ({"sensor": None}, "label: .*give either sensor or polygons"),
        ({"column": "kind"}, "column are for labels of polygons only|column .* polygons only"),
        ({"ignore": ["x"]}, "ignore are for labels of polygons only"),
        ({"sensor": None, "polygons": "p.geojson"}, "decode are for labels of a sensor only"),
        (
            {"sensor": None, "polygons": "p.geojson", "decode": "values", "ignore": ["cloud"]},
            "no two classes or names to ignore may be alike",
        ),
    ],
)
def test_a_recipe_names_one_source_of_labels(tmp_path, change, message):
    raw = yaml.safe_load((ROOT / "pipelines" / "clouds_landsat.yaml").read_text())
    raw["label"] |= change
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=message):
        geomm.load_recipe(tmp_path / "r.yaml")


# Splits keep areas whole.


def _areas(random, shape, number):
    """Rectangles of labels at random, later ones on top: class index and number of the area."""
    labels, area = np.full(shape, 255, np.uint8), np.full(shape, -1, np.int32)
    for k in range(number):
        y, x = (int(random.integers(0, n)) for n in shape)
        where = np.s_[y : y + int(random.integers(1, 30)), x : x + int(random.integers(1, 30))]
        labels[where], area[where] = k % 3, k
    return labels, area


@given(seed=st.integers(0, 10_000), block=st.integers(20, 60), buffer=st.integers(0, 18), number=st.integers(1, 30))
def test_no_area_is_in_two_splits(seed, block, buffer, number):
    labels, area = _areas(np.random.default_rng(seed), (170, 203), number)
    fractions = {"train": 0.5, "validation": 0.2, "test": 0.3}
    try:
        split = draw_whole(labels, area, fractions, block=block, buffer=buffer, seed=seed)
    except SplitError as error:
        assert "cannot be kept apart" in str(error)  # noqa: PT017
        return
    again = draw_whole(labels, area, fractions, block=block, buffer=buffer, seed=seed)
    assert split == again
    masks = {n: split.mask(n) for n in fractions}
    held = {n: set(area[m & (area >= 0)].tolist()) for n, m in masks.items()}
    assert not held["train"] & held["test"]
    assert not held["validation"] & (held["train"] | held["test"])


def test_every_split_holds_every_class_or_the_draw_fails():
    labels, area = _areas(np.random.default_rng(3), (310, 287), 60)
    label = _label()
    split = draw_whole(labels, area, {"train": 0.65, "test": 0.35}, block=48, buffer=16)
    check_classes(label, [(labels, split)])
    for k in range(3):
        share = (labels[split.mask("test")] == k).sum() / (labels[split.mask("test") | split.mask("train")] == k).sum()
        assert 0.2 < share < 0.5
    rare = labels.copy()
    rare[(labels == 2) & (area != area[labels == 2][0])] = 255
    area[rare == 255] = -1
    split = draw_whole(rare, area, {"train": 0.65, "test": 0.35}, block=48, buffer=16)
    with pytest.raises(
        SplitError, match=r"lacks a class.*labelled pixels of field, \d+ in train, \d+ in test.*smaller"
    ):
        check_classes(label, [(rare, split)])
    one = np.zeros_like(area)
    with pytest.raises(SplitError, match=r"cannot be kept apart.*leave 1 group of blocks"):
        draw_whole(np.zeros_like(labels), one, {"train": 0.5, "test": 0.5}, block=48, buffer=0)


# From a recipe.


@pytest.fixture
def drawn(recipe, tmp_path):
    """The synthetic recipe with polygons in degrees instead of the quality band: 3 classes, 24 polygons."""
    x, y = ORIGIN
    shapes = []
    for k in range(24):
        left, top = x + 30 * (4 + 20 * (k % 6)), y - 30 * (4 + 24 * (k // 6))
        shapes.append((("clear", "cirrus", "cloud")[(k + k // 6) % 3], shapely.box(left, top - 270, left + 270, top)))
    with rasterio.open(next(Path(yaml.safe_load(recipe.read_text())["source"]["folder"]).glob("*_B10.tif"))) as file:
        crs = file.crs.to_string()
    table = geopandas.GeoDataFrame({"what": [n for n, _ in shapes]}, geometry=[g for _, g in shapes], crs=crs)
    table.to_crs("EPSG:4326").to_file(tmp_path / "drawn.geojson")
    raw = yaml.safe_load(recipe.read_text())
    raw["label"] = {"polygons": "drawn.geojson", "column": "what", "classes": raw["label"]["classes"]}
    raw["source"]["sensors"] = ["landsat-oli-l1", "landsat-tirs-l1"]
    raw["split"] |= {"block": 24, "test": 0.4}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path / "recipe.yaml"


def test_a_recipe_with_polygons_runs(drawn, tmp_path):
    done = geomm.run(geomm.load_recipe(drawn, QUICK), tmp_path / "out")
    (fused,) = (r for r in done.rows if r.variant == "fused")
    (site,) = load_sites(geomm.load_recipe(drawn), tmp_path / "again")
    split = make_folds(done.config, [site])[0].splits[site.name]
    valid = site.cube[LABEL]["valid"].to_numpy()[0]
    assert valid.sum() == 24 * 81
    assert fused.counts.sum() == (valid & split.mask("test")).sum() > 0
    assert done.report.is_file()


def test_validation_and_chips_keep_polygons_whole(drawn, tmp_path):
    config = geomm.load_recipe(drawn, {"split.validation": 0.25, "split.test": 0.25, "chips.size": 24})
    (site,) = load_sites(config, tmp_path / "sites")
    split = make_folds(config, [site])[0].splits[site.name]
    assert split.names == ("train", "validation", "test")
    area = site.cube[LABEL][AREA].to_numpy()
    held = [set(area[split.mask(n) & (area >= 0)].tolist()) for n in split.names]
    assert all(not a & b for k, a in enumerate(held) for b in held[:k])
    store = geomm.StoredChips(build_chips(config, tmp_path / "store"))
    labelled = sum(int((store[k].target != 255).sum()) for k in range(len(store)))
    assert labelled == sum((split.mask(n) & (area >= 0)).sum() for n in split.names)


def test_recipes_with_polygons_that_cannot_work_say_so(drawn, tmp_path):
    for overrides, message in (
        ({"label.polygons": "other.geojson"}, r"do not exist.*other\.geojson"),
        ({"label.column": "class"}, "no column 'class'.*what"),
        ({"split.block": 200}, "cannot be kept apart.*leave 1 group of blocks"),
        ({"split.block": 90}, "a split lacks a class.*in train, .*in test"),
        (
            {"label.classes": [{"value": k, "name": n, "color": "#000000"} for k, n in enumerate("ab")]},
            r"cirrus \(8\), clear \(8\), cloud \(8\); named are a, b",
        ),
        (
            {
                "label.ignore": ["cloud", "clear"],
                "label.classes": [
                    {"value": 0, "name": "cirrus", "color": "#000000"},
                    {"value": 1, "name": "fog", "color": "#000000"},
                ],
            },
            "of 0 labelled pixels of fog, 0 in train, 0 in test",
        ),
    ):
        with pytest.raises(geomm.GeommError, match=message):
            geomm.run(geomm.load_recipe(drawn, QUICK | overrides), tmp_path / "out")
        assert not (tmp_path / "out").exists()


# The recipes that ship, on the real data.


@pytest.mark.shared
def test_landsat5_polygons(shared, tmp_path):
    folder = shared / "landsat5_thermal"
    config = geomm.load_recipe(ROOT / "pipelines" / "landsat5_polygons.yaml", QUICK)
    (site,) = load_sites(config, tmp_path / "sites")
    table = geopandas.read_file(folder / "trainingPolygons_lsat_DERIVED.geojson")
    with rasterio.open(next(folder.glob("*_B1.TIF"))) as file:
        x, y = file.transform * tuple(v + 0.5 for v in np.meshgrid(np.arange(file.width), np.arange(file.height)))
    wanted = {
        n: sum(shapely.contains_xy(g, x, y).sum() for g in table.geometry[table["class"] == n]) for n in table["class"]
    }
    node = site.cube[LABEL].to_dataset()
    values, counts = np.unique(node["data"].to_numpy()[node["valid"].to_numpy()[:, None]], return_counts=True)
    names = {c.value: c.name for c in config.classes()}
    found = dict(zip([names[v] for v in values], counts.tolist(), strict=True))
    assert found == wanted == {"cleared": 1124, "forest": 2271, "water": 795, "fallen_dry": 220}
    area = node[AREA].to_numpy()
    assert np.unique(area[area >= 0]).size == len(table) == 36
    split = make_folds(config, [site])[0].splits[site.name]
    train, test = (set(area[split.mask(n) & (area >= 0)].tolist()) for n in ("train", "test"))
    assert not train & test
    assert len(train) >= 20
    assert len(test) >= 10
    done = geomm.run(config, tmp_path / "out")
    assert {r.variant for r in done.rows} == {"optical", "thermal", "fused"}
    for row in done.rows:
        assert row.counts.sum() == (split.mask("test") & (area >= 0)).sum()
        assert (row.counts.sum((0, 1, 3)) > 20).all()  # every class is tested


PATCHES = {"20250406": 10190, "20250423": 10182, "20250502": 10188, "20250510": 10173}
"""Site to pixels that WorldCover labels."""


@pytest.mark.shared
def test_worldcover_series(shared, tmp_path):
    folder = shared / "s1_s2_l8_series"
    config = geomm.load_recipe(ROOT / "pipelines" / "worldcover_series.yaml", QUICK)
    sites = load_sites(config, tmp_path / "sites")
    assert {s.name for s in sites} == set(PATCHES)
    classes = {c.value for c in config.classes()}
    for site in sites:
        (path,) = folder.glob(f"PR_{site.name}_*.tif")
        with rasterio.open(path) as file:
            stored = file.read()
            assert geobox_of(site.cube).affine.almost_equals(file.transform)
        cover = stored[307]
        assert set(np.unique(cover)) <= classes | {0}
        node = site.cube[LABEL].to_dataset()
        np.testing.assert_array_equal(node["valid"].to_numpy()[0], cover != 0)
        assert (target_of(config).index(node["data"].to_numpy()[0, 0]) != 255).sum() == PATCHES[site.name]
        for name, count, first, bands in (("s2", 2, 4, 6), ("s1", 1, 1, 2), ("l8", 1, 10, 6)):
            node = site.cube[name].to_dataset()
            assert node.sizes["time"] == count
            last = np.datetime64(f"{site.name[:4]}-{site.name[4:6]}-{site.name[6:]}")
            for k, time in enumerate(node["time"].to_numpy().astype("datetime64[D]")):
                day = 7 - int((last - time).astype(int))
                part = stored[38 * day + first - 1 :][:bands]
                there = ((part != -9999) & (part != 0)).all(0)
                np.testing.assert_array_equal(node["valid"].to_numpy()[k], there)
                np.testing.assert_array_equal(node["data"].to_numpy()[k][:, there], part[:, there])
            best = site.cube[name]["valid"].to_numpy().any(0).mean()
            assert best > 0.9 or (site.name, name, best) == ("20250406", "l8", 0.0)


@pytest.mark.shared
def test_worldcover_series_leaves_one_place_out(tmp_path):
    config = geomm.load_recipe(ROOT / "pipelines" / "worldcover_series.yaml", QUICK | {"train.steps": 2})
    done = geomm.run(config, tmp_path / "out")
    assert {(r.fold, r.variant) for r in done.rows} == {(f, v) for f in PATCHES for v in ("s2", "s1", "l8", "fused")}
    for row in done.rows:
        assert row.counts.sum() == PATCHES[row.fold]
    assert set(done.products) == set(PATCHES)
    with rasterio.open(done.products["20250406"].files["class"]) as file:
        assert set(np.unique(file.read(1))) <= {c.value for c in config.classes()} | {255}


@pytest.mark.shared
def test_the_broken_file_of_the_series_is_named_where_it_is_asked_for(shared, tmp_path):
    definition = yaml.safe_load((ROOT / "catalogs" / "s1_s2_l8_series.yaml").read_text())
    catalog = geomm.build_catalog(shared / "s1_s2_l8_series", tmp_path / "c", definition=definition)
    files = {Path(b.href).name for s in catalog.search() for b in s.bands.values()}
    assert len(files) == 4
    assert "broken_307_bands.tif" not in files
    definition["items"] = [{**definition["items"][0], "pattern": "{id}.tif"}]
    with pytest.raises(CatalogError, match=r"broken_307_bands.tif.*307 in the file, 308 expected"):
        geomm.build_catalog(shared / "s1_s2_l8_series", tmp_path / "d", definition=definition)
