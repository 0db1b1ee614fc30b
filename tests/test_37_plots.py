"""Pictures of cubes, chips and maps: the right numbers in the right colours, without arguments."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot as plt

import geomm
from geomm import cards
from geomm.cube.plots.flags import classes_of
from geomm.cube.plots.preview import preview
from geomm.cube.plots.stretch import colours_of, picture_of
from geomm.errors import ConfigError, GridError, UnknownNameError
from geomm.sensors import get_sensor
from geomm.testing import write_scene


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Optical, thermal and radar of one place, with a hole in the optical imagery."""
    folder = tmp_path_factory.mktemp("three")
    for sensor, bands in (
        ("sentinel2-l2a", ("B02", "B03", "B04")),
        ("landsat-tirs-l1", ("B10",)),
        ("sentinel1-rtc", ("VV", "VH")),
    ):
        write_scene(folder, sensor, bands=bands, shape=(90, 120))
    catalog = geomm.build_catalog(
        folder, tmp_path_factory.mktemp("catalog"), sensors=("sentinel2-l2a", "landsat-tirs-l1", "sentinel1-rtc"),
        datetime="2020-06-01T10:00:00Z",
    )  # fmt: skip
    scenes = catalog.search(sentinel2_offset=0)
    return geomm.load_cube(
        scenes, geomm.common_geobox(scenes, resolution=30.0),
        {"s2": geomm.Modality("sentinel2-l2a", ("B02", "B03", "B04")), "heat": geomm.Modality("landsat-tirs-l1", ("B10",)),
         "s1": geomm.Modality("sentinel1-rtc", ("VV", "VH"))},
        chunks=64,
    )  # fmt: skip


def shown(ax):
    """What an axes shows, its colours as stored."""
    return ax.get_images()[0].get_array()


@pytest.mark.parametrize("name", ["s2", "heat", "s1"])
@pytest.mark.parametrize("side", [1000, 50, 7])
def test_a_preview_is_the_mean_of_what_is_valid(three, name, side):
    node = three[name].to_dataset()
    small = preview(node, [0], side=side)
    whole = geomm.calibrated(three)[name]["data"][0, 0].to_numpy().astype(float)
    every = -(-max(whole.shape) // side)
    expected = np.full(small.values.shape[1:], np.nan)
    for y, x in np.ndindex(expected.shape):
        part = whole[y * every : (y + 1) * every, x * every : (x + 1) * every]
        if np.isfinite(part).any():
            expected[y, x] = np.nanmean(part)
    np.testing.assert_allclose(small.values[0], expected, rtol=2e-6)


def test_decibels_are_averaged_as_power(three):
    node = geomm.calibrated(three)["s1"].to_dataset()
    db = node.assign(data=10 * np.log10(node["data"])).assign_attrs(sensor="sentinel1-rtc-db", units="gamma0_db")
    expected = 10 * np.log10(preview(node, [0], side=10).values)
    np.testing.assert_allclose(preview(db, [0], side=10).values, expected, rtol=1e-4)


def test_red_green_and_blue_are_the_right_bands(three):
    values = geomm.calibrated(three)["s2"]["data"][0].to_numpy()
    picture = picture_of(three["s2"].to_dataset(), stretch=(0.0, 0.5))
    assert picture.title == "B04 B03 B02"
    expected = np.floor(np.clip(values[::-1] / 0.5, 0, 1) * 255)
    good = np.isfinite(values).all(0)
    np.testing.assert_array_equal(picture.rgba[..., 3] > 0, good)
    assert np.abs(np.moveaxis(picture.rgba[..., :3], -1, 0).astype(int) - expected)[:, good].max() <= 1


def test_a_stretch_holds_most_of_the_picture_and_keeps_grey_grey():
    grey = np.random.default_rng(0).normal(0.2, 0.05, (1, 80, 80)).astype(np.float32)
    bands = [get_sensor("sentinel2-l2a").band(n) for n in ("B04", "B03", "B02")]
    rgba = colours_of(np.repeat(grey, 3, 0), bands).rgba
    assert (rgba[..., 0] == rgba[..., 1]).all()
    assert 0.95 < ((rgba[..., 0] > 0) & (rgba[..., 0] < 255)).mean() < 0.999
    even = colours_of(np.full((3, 8, 8), 0.2, np.float32) + grey[:, :8, :8] * 1e-4, bands).rgba
    assert np.ptp(even[..., :3]) < 8  # the noise of an even surface is not blown up


def test_plots_need_no_arguments(three):
    axes = three.geomm.plot()
    assert [ax.get_title().split(",")[0] for ax in axes[:3]] == ["s2", "heat", "s1"]
    assert "B04 B03 B02 (reflectance)" in three.geomm.plot.rgb().get_title()
    assert "VV VH VV/VH (gamma0, dB)" in three.geomm.plot.sar().get_title()
    heat = three.geomm.plot.thermal()
    labels = [ax.get_ylabel() for ax in heat.figure.axes if ax is not heat]
    assert labels == ["brightness temperature, K"]
    assert any(t.get_text().endswith(("m", "km")) for t in heat.texts)  # the scale bar


def test_valid_says_why_not(three, tmp_path):
    cube = three.copy(deep=False)
    status = three["s2"]["status"].load().copy()
    status[0, :45] = 2
    cube["s2"] = three["s2"].to_dataset().assign(status=status, valid=status == 4)
    text = [t.get_text() for t in cube.geomm.plot.valid("s2").get_legend().get_texts()]
    share = float((status == 2).mean())
    assert f"excluded by quality  {share:.1%}" in text
    assert len(cube.geomm.plot.valid()) == 3


def test_what_was_taken_out_of_valid_later_is_shown(three):
    cube = three.copy()
    valid = cube["s2"]["valid"].copy(deep=True)
    valid[:, :45] = False
    cube["s2/valid"] = valid
    ax = cube.geomm.plot.valid("s2")
    names = {t.get_text().rsplit("  ", 1)[0] for t in ax.get_legend().get_texts()}
    assert "excluded by quality" in names
    before = three.geomm.plot.valid("s2")
    assert "excluded by quality" not in {t.get_text().rsplit("  ", 1)[0] for t in before.get_legend().get_texts()}


def test_every_date_is_shown_or_the_one_that_is_named(three):
    cube = three.copy(deep=False)
    node = three["s1"].to_dataset()
    later = node.assign_coords(time=node["time"] + np.timedelta64(12, "D"))
    cube["s1"] = xr.concat([node, later], "time", combine_attrs="override")
    titles = [ax.get_title().split("\n")[0] for ax in cube.geomm.plot.sar()]
    assert titles == ["s1, 2020-06-01", "s1, 2020-06-13"]
    assert "2020-06-13" in cube.geomm.plot.sar(time="2020-06-13").get_title()
    assert "2020-06-13" in cube.geomm.plot.sar(time=-1).get_title()
    with pytest.raises(ConfigError, match="2020-06-01, 2020-06-13"):
        cube.geomm.plot.sar(time="2021")


def test_what_cannot_be_shown_says_what_can(three):
    with pytest.raises(UnknownNameError, match="heat"):
        three.geomm.plot.rgb("haet")
    with pytest.raises(UnknownNameError, match="B03"):
        three.geomm.plot.rgb("s2", bands=["B99"])
    with pytest.raises(ConfigError, match="one band or three"):
        three.geomm.plot.rgb("s2", bands=["B02", "B03"])
    with pytest.raises(ConfigError, match="lower first"):
        three.geomm.plot.thermal(stretch=(300, 250))
    alone = three.copy(deep=False)
    del alone["heat"]
    with pytest.raises(ConfigError, match=r"as temperature.*s1 \(power, 2 bands\)"):
        alone.geomm.plot.thermal()
    with pytest.raises(ConfigError, match="no cube"):
        xr.DataTree().geomm.plot()


def test_nothing_is_read_before_it_is_shown(three):
    assert three.geomm.plot is not None
    assert three["s2"]["data"].chunks is not None  # still lazy after pictures


def test_a_map_to_pan_in_has_a_layer_for_every_modality(three):
    page = three.geomm.explore().get_root().render()
    assert page.count("image_overlay") >= 3
    for name in ("s2", "heat", "s1"):
        assert re.search(rf'"{name}"', page)
    one = three.geomm.explore("s2")
    assert three.geomm.explore("s1", map=one) is one
    assert one.get_root().render().count("L.control.layers(") == 1


@pytest.fixture
def maps(three):
    """A class map and probabilities on the grid of the imagery."""
    values = np.zeros((90, 120), np.uint8)
    values[:, 60:] = 1
    values[:9] = 255
    dims = ("y", "x")
    coords = {n: three[n] for n in ("y", "x", "spatial_ref")}
    flags = {
        "flag_values": np.array([0, 1], np.uint8),
        "flag_meanings": "open_water land",
        "flag_colors": "#0000ff #00aa00",
    }
    chances = np.stack([values == k for k in (0, 1)]).astype(np.float32)
    return xr.Dataset(
        {"class": (dims, values, flags), "probability": (("class_name", *dims), chances)},
        coords | {"class_name": ["open water", "land"]},
    )  # fmt: skip


def test_long_names_leave_room_for_the_picture(maps):
    names = {f"flag_{k}": v for k, v in (("values", [0, 1, 2, 3]), ("meanings", " ".join(["a_very_long_name"] * 4)))}
    long = maps.assign({"class": maps["class"].assign_attrs(names, flag_colors="#0000ff #00aa00 #ff0000 #ffffff")})
    axes = long.geomm.plot("class")
    axes.figure.canvas.draw()  # a layout that collapses warns, and warnings are errors
    assert axes.get_legend().get_window_extent().width < axes.figure.bbox.width
    assert axes.get_window_extent().width > 0.8 * axes.figure.bbox.width


def test_what_has_no_unit_says_what_it_is(maps):
    plain = maps.assign(heat=maps["probability"][0].drop_vars("class_name").assign_attrs(units="1") - 0.5)
    axes = plain.geomm.plot("heat")
    assert [a.get_ylabel() for a in axes.figure.axes if a is not axes] == ["heat"]


def test_classes_lie_over_the_imagery_with_their_names_and_shares(maps, three):
    assert [(c.value, c.name, c.color) for c in classes_of(maps["class"])] == [
        (0, "open water", "#0000ff"),
        (1, "land", "#00aa00"),
    ]
    plain = maps.geomm.plot()
    assert shown(plain)[50, 10].tolist() == [0, 0, 255, 255]
    assert shown(plain)[0, 0, 3] == 0  # nodata
    assert [t.get_text() for t in plain.get_legend().get_texts()] == ["open water  50.0%", "land  50.0%"]
    over = maps.geomm.plot(over=three, modality="s2", opacity=0.5)
    assert len(over.get_images()) == 2
    assert over.get_images()[1].get_array()[50, 10].tolist() == [0, 0, 255, 127]
    assert len(maps.geomm.plot("probability")) == 2
    page = maps.geomm.explore(over=three).get_root().render()
    assert "open water" in page
    assert page.count("image_overlay") >= 4


def test_long_names_leave_room_for_the_map(maps):
    names = (
        "as_good_as_either_of_the_two only_both_together_are_right one_alone_was_right_before nobody_at_all_is_right"
    )
    maps["class"].attrs |= {"flag_values": np.arange(4, dtype=np.uint8), "flag_meanings": names, "flag_colors": ""}
    ax = maps.geomm.plot("class")
    ax.figure.draw_without_rendering()
    assert ax.get_position().width > 0.8
    names = {t.get_text() for t in ax.get_legend().get_texts()}
    assert any(n.startswith("as good as either of the two") for n in names)


def test_maps_of_another_grid_are_refused(maps, three):
    with pytest.raises(GridError, match="another grid"):
        maps.isel(y=slice(0, 50)).geomm.plot(over=three)
    with pytest.raises(UnknownNameError, match="probability"):
        maps.geomm.plot("propability")
    with pytest.raises(ConfigError, match="holds no map"):
        xr.Dataset().geomm.plot()


@pytest.fixture
def chips(cube):
    split = geomm.SpatialSplit.draw((96, 128), {"train": 0.5, "test": 0.5}, block=32, buffer=0)
    target = geomm.Target("label", values=(0, 1, 2), decode=geomm.radiometry.cloud_classes_from_bqa)
    return geomm.ChipDataset(
        cube, split.tiles("train", 16), ["optical", "thermal"], target=target, split=(split, "train"),
        text=lambda w: f"<b>row {w.y}</b>",
    )  # fmt: skip


def test_chips_show_all_that_they_hold(chips):
    axes = chips.plot(3, classes=[geomm.ClassSpec(k, n, "#ff0000") for k, n in enumerate(("clear", "cirrus", "cloud"))])
    assert axes.shape == (3, 3)
    assert [ax.get_title().split("\n")[0] for ax in axes[0]] == ["optical", "thermal", "label"]
    assert axes[0, 0].get_xlabel() == "<b>row 0</b>"
    assert axes[-1, -1].get_legend() is not None
    number = chips.plot(numbers=[5])
    arrays = chips.read([5])
    values = arrays.images["thermal"][0, 0, 0].astype(float)
    bright = np.argsort(shown(number[0, 1])[..., :3].sum(-1).ravel())
    assert values.ravel()[bright[-1]] > values.ravel()[bright[0]]
    with pytest.raises(ConfigError, match="no such chip"):
        chips.plot(numbers=[10**6])
    with pytest.raises(ConfigError, match="no chip"):
        chips.plot(0)


def test_chips_know_where_they_lie(chips, cube):
    table = chips.table
    assert list(table["split"].unique()) == ["train"]
    box = table.to_crs(str(cube.to_dataset().odc.geobox.crs)).geometry.iloc[3].bounds
    window = chips.chips[3].read
    np.testing.assert_allclose(box, cube.to_dataset().odc.geobox[window.slices].boundingbox.bbox, atol=1e-5)
    page = chips.explore().get_root().render()
    assert f"train ({len(chips)})" in page


def test_a_store_shows_the_same(chips, tmp_path):
    parts = [geomm.StorePart("here", chips.reader, {"split": ["train"] * len(chips)})]
    geomm.write_store(parts, tmp_path / "store")
    stored = geomm.StoredChips(tmp_path / "store")
    number = int(stored.table.set_index("index").loc[5, "chip"])
    there, here = stored.plot(numbers=[number]), chips.plot(numbers=[5])
    for a, b in zip(there.ravel(), here.ravel(), strict=True):
        np.testing.assert_array_equal(shown(a), shown(b))
    assert "train" in stored.explore().get_root().render()
    assert "landsat-tirs-l1" in stored._repr_html_()


class Page(HTMLParser):
    """Collects what a small page would load or run, and whether its elements are closed."""

    VOID = ("path", "rect", "circle", "img", "br", "source", "link", "meta")

    def __init__(self):
        super().__init__()
        self.bad, self.open, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        if tag in ("script", "iframe", "link", "object", "embed") or any(n.startswith("on") for n in names):
            self.bad.append((tag, names))
        if any(str(names.get(n, "")).startswith(("http", "//", "javascript")) for n in ("src", "href", "xlink:href")):
            self.bad.append((tag, names))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html):
    page = Page()
    page.feed(html)
    assert not page.bad
    assert not page.open
    return page.text


def test_a_cube_says_what_it_is(three):
    html = three._repr_html_()
    text = read(html.split("<details>")[0])
    for word in ("s2", "landsat-tirs-l1", "VV VH", "gamma0 power", "2020-06-01", "copied", "EPSG:"):
        assert word in text
    assert len(html.split("<details>")[0]) < 8000
    assert "data" in html


def test_names_of_others_stay_text(three):
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    node = three["s2"].to_dataset().assign_attrs(units=evil, sensor=evil)
    tree = geomm.cube.Cube.from_dict({"/": three.to_dataset(), "strange": node})
    assert evil in read(tree._repr_html_().split("<details>")[0])
    assert evil in read(cards.card(evil, [cards.facts({evil: evil}), cards.table([evil], [[evil]])], kind=evil))
    assert evil in read(cards.swatches({evil: "#000000"}))


def test_many_rows_and_places_stay_small():
    rows = cards.table(["n"], [[str(k)] for k in range(10_000)])
    assert "and 9988 more" in read(rows)
    assert len(cards.world([(0.0, 0.0, 1.0, 1.0)] * 100_000)) < 60_000
    assert len(cards.windows((10_000, 10_000), {"a": [(k, k, 5, 5) for k in range(100_000)]})) < 120_000


def test_a_place_across_the_antimeridian_is_drawn_once():
    assert 'width="10.00"' in cards.world([(170.0, -10.0, -170.0, 10.0)])


def test_what_a_search_found_says_what_it_is(landsat):
    found = landsat.search()
    assert isinstance(found, list)
    text = read(found._repr_html_())
    for word in ("landsat-oli-l1", "B2 B3 B4", "2020-06-01", "3 of 1 items"):
        assert word in text
    assert "nothing in the catalog matches" in read(landsat.search(ids=["other"])._repr_html_())


def test_models_and_runs_say_what_they_are(recipe, tmp_path):
    config = geomm.load_recipe(
        recipe, {"train.steps": 2, "train.seeds": [0], "chips.number": 8, "description": "<b>x</b>"}
    )
    done = geomm.run(config, tmp_path)
    text = read(done._repr_html_())
    for word in ("optical", "thermal", "fused", "mean IoU", "clouds-class.tif"):
        assert word in text
    text = read(geomm.load_package(done.package)._repr_html_())
    for word in ("landsat-tirs-l1", "kelvin brightness temperature", "cirrus", "segmentation", "attention"):
        assert word in text


def test_an_index_says_what_it_holds(tmp_path):
    import geopandas
    import shapely

    index = geomm.Index.create(tmp_path / "places", 4)
    rows = geopandas.GeoDataFrame(
        {
            "id": ["a", "b"],
            "datetime": ["2020-06-01", "2021-06-01"],
            "sensors": ["s1", "s1,s2"],
            "text": ["<i>sea</i>", ""],
        },
        geometry=[shapely.box(9, 45, 10, 46)] * 2,
        crs="EPSG:4326",
    )
    assert "0 vectors" in read(index._repr_html_())
    index.append(np.eye(4, dtype=np.float32)[:2], rows)
    text = read(index._repr_html_())
    for word in ("2 vectors of 4", "2020-06-01 to 2021-06-01", "s1,s2", "50.0%", "texts"):
        assert word in text
