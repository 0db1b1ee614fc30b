"""Pictures of real cubes: dates that differ, pixels that are not square, many classes, and what is given by mistake."""

from __future__ import annotations

import io
import itertools
import math

import numpy as np
import pytest
import shapely
import xarray as xr
from matplotlib import pyplot as plt
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from PIL import Image

import geomm
from geomm import charts
from geomm.cube.plots.ground import pixel_metres, proportion, proportion_of
from geomm.errors import ConfigError, GeommError, UnknownNameError
from geomm.metrics import Interval

UTM = GeoBox.from_bbox((500_000, 4_200_000, 500_600, 4_200_500), "EPSG:32632", resolution=10)
DAYS = ["2025-04-02", "2025-04-10", "2025-04-30"]


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def array(bands, times, geobox=UTM, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).uniform(0.01, 0.9, (len(times), len(bands), *geobox.shape))
    values = values * 255 if dtype == np.uint8 else values
    stamps = np.array(times, "datetime64[ns]")
    coords = {**xr_coords(geobox, always_yx=True), "time": stamps, "band": list(bands)}
    return xr.DataArray(values.astype(dtype), coords, ("time", "band", "y", "x"))


def cube_of(geobox=UTM, **more):
    arrays = {
        "s1": array(["VV", "VH"], DAYS[:2], geobox),
        "s2": array(["B02", "B03", "B04"], DAYS, geobox),
        "cover": array(["class"], ["2021-07-01"], geobox, np.uint8) // 60,
    } | more
    sensors = {"s1": "sentinel1-rtc", "s2": "sentinel2-l2a", "cover": "landcover"}
    return geomm.from_xarray(arrays, {n: sensors.get(n, "generic") for n in arrays})


def firsts(axes):
    return [ax.get_title().split("\n")[0] for ax in np.ravel(np.array(axes, object))]


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        (None, ["s1, 2025-04-02", "s2, 2025-04-02", "cover, 2021-07-01", "valid in all modalities"]),
        ("2025-04-10", ["s1, 2025-04-10", "s2, 2025-04-10", "cover, 2021-07-01", "valid in all modalities"]),
        ("2025-04-30", ["s2, 2025-04-30", "cover, 2021-07-01", "valid in all that is shown"]),
        (1, ["s1, 2025-04-10", "s2, 2025-04-10", "cover, 2021-07-01", "valid in all modalities"]),
        (2, ["s2, 2025-04-30", "cover, 2021-07-01", "valid in all that is shown"]),
    ],
)
def test_modalities_of_different_dates_are_shown_together(time, shown):
    cube = cube_of()
    assert firsts(cube.geomm.plot(time=time)) == shown
    names = [one.split(",")[0] for one in shown[:-1]]
    assert [t.split(":")[0] for t in firsts(cube.geomm.plot.valid(time=time))] == names
    page = cube.geomm.explore(time=time).get_root().render()
    assert [name for name in ("s1", "s2", "cover") if f'"{name}' in page] == names
    assert "<b>cover</b>" in page  # its classes


def test_a_date_that_nothing_has_names_modalities_and_dates():
    cube = cube_of()
    for do in (cube.geomm.plot, cube.geomm.explore, cube.geomm.plot.valid):
        with pytest.raises(ConfigError, match=r"s1 has 2025-04-02, 2025-04-10; s2 .*; cover has 2021-07-01"):
            do(time="2024-01-01")
        with pytest.raises(ConfigError, match=r"modality s1, time '2025-04-30'.*2025-04-02, 2025-04-10"):
            do("s1", time="2025-04-30")
    with pytest.raises(ConfigError, match="modality cover"):
        cube.geomm.plot("cover", time=1)


def test_several_dates_are_several_pictures_and_never_one_of_them_in_silence():
    cube, (_, ax) = cube_of(), plt.subplots()
    assert firsts(cube.geomm.plot.rgb(time="2025-04")) == [f"s2, {d}" for d in DAYS]
    for time in (None, "2025-04"):
        with pytest.raises(ConfigError, match=r"s2, 2025-04-02; s2, 2025-04-10.*time=\"2025-04-02\""):
            cube.geomm.plot.rgb(time=time, ax=ax)
    assert firsts(cube.geomm.plot.rgb(time="2025-04-30", ax=ax)) == ["s2, 2025-04-30"]
    assert cube.geomm.plot.rgb(time="2025-04-30", ax=ax) is ax
    many = plt.subplots(1, 3)[1]
    assert firsts(cube.geomm.plot.rgb(ax=many)) == [f"s2, {d}" for d in DAYS]
    twice = geomm.from_xarray({"s2": array(["B02", "B03", "B04"], ["2025-04-02T10:00", "2025-04-02T22:30"])},
                              {"s2": "sentinel2-l2a"})  # fmt: skip
    assert firsts(twice.geomm.plot.rgb(time="2025-04-02")) == ["s2, 2025-04-02 10:00", "s2, 2025-04-02 22:30"]
    assert firsts(twice.geomm.plot.rgb(time="2025-04-02 22:30", ax=ax)) == ["s2, 2025-04-02 22:30"]
    assert firsts(twice.geomm.plot.rgb(time=twice["s2"]["time"][1])) == ["s2, 2025-04-02 22:30"]


def size_of(ax):
    ax.figure.draw_without_rendering()
    box = ax.get_window_extent()
    return box.width, box.height


@pytest.mark.parametrize(
    ("geobox", "wide", "high"),
    [
        (UTM, 600, 500),
        (GeoBox.from_bbox((500_000, 4_200_000, 501_215, 4_201_648), "EPSG:32632", shape=(10, 10)), 1215, 1648),
        (GeoBox.from_bbox((9.0, 38.0, 9.046, 38.046), "EPSG:4326", resolution=0.001),
         46 * math.cos(math.radians(38.023)), 46),
        (GeoBox(UTM.shape, UTM.affine @ UTM.affine.scale(3, 1), UTM.crs), 1800, 500),
    ],
)  # fmt: skip
def test_metres_are_as_long_down_as_across(geobox, wide, high):
    cube = cube_of(geobox)
    for ax in cube.geomm.plot():
        width, height = size_of(ax)
        assert width / height == pytest.approx(wide / high, rel=0.01)
    ax = cube.geomm.plot.rgb(time=0)
    width, _ = size_of(ax)
    bar = np.ptp(ax.transAxes.transform(ax.lines[-1].get_xydata())[:, 0])
    length, unit = ax.texts[-1].get_text().split()
    metres = float(length) * (1000 if unit == "km" else 1)
    ground = wide * (1000 / 9.009 if geobox.crs.geographic else 1)  # kilometres of a thousandth of a degree
    assert bar / width == pytest.approx(metres / ground, rel=0.01)
    flags = {"flag_values": np.array([0, 1], np.uint8), "flag_meanings": "a b", "flag_colors": "#3f7f4f #f7f7f7"}
    maps = xr.Dataset({"class": (("y", "x"), np.zeros(geobox.shape, np.uint8), flags)}, xr_coords(geobox))
    width, height = size_of(maps.geomm.plot(over=cube))
    assert width / height == pytest.approx(wide / high, rel=0.01)
    chips = geomm.ChipDataset(cube, geomm.ChipGrid(tuple(geobox.shape), 5), ["s2"])
    width, height = size_of(chips.plot(1)[0, 0])
    assert width / height == pytest.approx(wide / high * geobox.shape[0] / geobox.shape[1], rel=0.02)


def test_pixels_are_measured_on_the_ground():
    across, down = pixel_metres(GeoBox.from_bbox((9.0, 59.5, 10.0, 60.5), "EPSG:4326", resolution=0.01))
    assert across == pytest.approx(0.01 * 111_320 * math.cos(math.radians(60)), rel=0.005)
    assert down == pytest.approx(0.01 * 111_412, rel=0.001)  # a degree of latitude at 60 N
    assert proportion(UTM) == 1.0
    assert proportion(GeoBox.from_bbox((-180, -90, 180, 90), "EPSG:4326", resolution=1)) == pytest.approx(1, abs=0.02)


def test_chips_across_the_antimeridian_count_as_square():
    east, west = shapely.box(179.9, 0, 180, 0.2), shapely.box(-180, 0, -179.9, 0.2)
    assert proportion_of([shapely.MultiPolygon([east, west]), shapely.Polygon()]) == 1.0
    assert proportion_of([shapely.box(9, 60, 10, 61)]) == pytest.approx(2.0, rel=0.03)  # degrees at 60.5 N


def inside(figure):
    """Whether all that is drawn lies within the figure."""
    figure.canvas.draw()
    width, height = figure.bbox.width, figure.bbox.height
    for ax in figure.axes:
        for part in [ax.title, ax.get_legend(), *ax.texts]:
            if part is None or (hasattr(part, "get_text") and not part.get_text()):
                continue
            box = part.get_window_extent()
            assert box.x0 >= -1, part
            assert box.y0 >= -1, part
            assert box.x1 <= width + 1, part
            assert box.y1 <= height + 1, part


@pytest.mark.parametrize("number", [2, 9, 13, 40])
def test_legends_are_whole(number):
    labels = array(["class"], ["2021-07-01"], dtype=np.uint8)
    labels.values[:] = (np.arange(labels.size) % number).reshape(labels.shape)
    cube = cube_of(cover=labels)
    axes = cube.geomm.plot(time="2025-04-02")
    inside(axes[0].figure)
    names = [t.get_text() for t in axes[2].get_legend().get_texts()]
    assert names == [str(k) for k in range(min(number, 16))] + ([f"and {number - 16} more"] if number > 16 else [])
    sizes = []
    for box in (None, "tight"):
        buffer = io.BytesIO()
        axes[0].figure.savefig(buffer, bbox_inches=box, dpi=50)
        sizes.append(Image.open(buffer).size)
    assert np.abs(np.subtract(*sizes)).max() <= 12  # nothing hangs over, and nothing is left empty


WORLDCOVER = (
    "tree_cover shrubland grassland cropland built-up bare_/_sparse_vegetation snow_and_ice permanent_water_bodies "
    "herbaceous_wetland mangroves moss_and_lichen"
)


def test_long_legends_of_maps_are_whole():
    values = (np.arange(UTM.shape[0] * UTM.shape[1]) % 11).reshape(UTM.shape).astype(np.uint8)
    flags = {"flag_values": np.arange(11, dtype=np.uint8), "flag_meanings": WORLDCOVER}
    ax = xr.Dataset({"class": (("y", "x"), values, flags)}, xr_coords(UTM)).geomm.plot()
    inside(ax.figure)
    assert ax.get_window_extent().width > 0.9 * ax.figure.bbox.width


def test_colour_bars_are_as_high_as_their_picture():
    wide = GeoBox.from_bbox((500_000, 4_200_000, 503_000, 4_200_500), "EPSG:32632", resolution=25)
    heat = array(["B10"], DAYS[:1], wide) * 30 + 280
    cube = geomm.from_xarray({"heat": heat, "ndvi": array(["ndvi"], DAYS[:1], wide)}, {"heat": "landsat-tirs-l1"})
    figure, ax = plt.subplots(figsize=(5, 5))
    for one in (*cube.geomm.plot()[:2], cube.geomm.plot.thermal(), cube.geomm.plot.thermal(ax=ax)):
        one.figure.canvas.draw()
        (bar,) = [a for a in one.figure.axes if getattr(a, "_colorbar_info", {}).get("parents") == [one]]
        seen, image = bar.get_tightbbox(), one.get_window_extent()
        ends = bar.get_window_extent().height * 1.1  # a twentieth above and below, for values beyond
        assert ends == pytest.approx(image.height, rel=0.02)
        assert image.x1 < seen.x0 < image.x1 + 0.1 * figure.dpi
    labels = {a.get_ylabel() for a in cube.geomm.plot()[0].figure.axes}
    assert "brightness temperature, K" in labels
    assert not any("digital" in label for label in labels)  # floats of no sensor


def test_where_nothing_is_valid_no_scale_is_made_up():
    cube = geomm.from_xarray({"heat": array(["B10"], DAYS[:1]) * np.nan}, {"heat": "landsat-tirs-l1"})
    axes = cube.geomm.plot()
    assert len(axes[0].figure.axes) == 2
    assert "no valid pixel" in [t.get_text() for t in axes[0].texts]


def test_three_or_four_bands_of_bytes_are_a_picture():
    for names in (["band1", "band2", "band3"], ["1", "2", "3", "4"]):
        cube = geomm.from_xarray({"photo": array(names, DAYS[:1], dtype=np.uint8)})
        ax = cube.geomm.plot.rgb()
        assert ax.get_title().split("\n")[1] == " ".join(names[:3]) + " (digital number)"
        seen = np.moveaxis(np.asarray(ax.get_images()[0].get_array())[..., :3], -1, 0).astype(float)
        stored = cube["photo"]["data"][0, :3].to_numpy()
        slope = [
            np.polyfit(b[(s > 0) & (s < 255)], s[(s > 0) & (s < 255)], 1) for b, s in zip(stored, seen, strict=True)
        ]
        np.testing.assert_allclose(slope, np.broadcast_to(slope[0], (3, 2)), rtol=0.05, atol=1)  # one stretch for all
        chips = geomm.ChipDataset(cube, geomm.ChipGrid(tuple(UTM.shape), 16), ["photo"])
        assert np.ptp(np.asarray(chips.plot(1)[0, 0].get_images()[0].get_array())[..., :3], axis=-1).max() > 50
    floats = geomm.from_xarray({"three": array(["a", "b", "c"], DAYS[:1])})
    with pytest.raises(ConfigError, match="natural colours"):
        floats.geomm.plot.rgb()


def test_maps_lie_over_natural_colours_where_there_are_some():
    cube = cube_of()
    maps = xr.Dataset({"share": (("y", "x"), np.full(UTM.shape, 0.5, np.float32))}, xr_coords(UTM))
    below = np.asarray(maps.geomm.plot(over=cube).get_images()[0].get_array())
    expected = np.asarray(cube.geomm.plot.rgb(time=0).get_images()[0].get_array())
    np.testing.assert_array_equal(below, expected)


def test_one_time_step_taken_out_is_shown_and_an_average_says_how():
    cube = cube_of()
    assert firsts(cube.isel(time=0).geomm.plot())[1] == "s2, 2025-04-02"
    alone = xr.DataTree.from_dict({"/": cube.to_dataset(), "s2": cube["s2"].to_dataset()})
    assert firsts(alone.sel(time="2025-04-30").geomm.plot()) == ["s2, 2025-04-30", "valid in all modalities"]
    with pytest.raises(ConfigError, match=r"geomm.calibrated\(cube\)\[\"s2\"\].*from_xarray"):
        alone.mean("time", keep_attrs=True).geomm.plot()
    mean = geomm.calibrated(alone)["s2"]["data"].mean("time")
    assert firsts(geomm.from_xarray({"s2": mean}, {"s2": "sentinel2-l2a"}, time="2024-07-01").geomm.plot())
    for do in ("plot", "explore"):
        with pytest.raises(ConfigError, match="no time step"):
            getattr(alone.sel(time=slice("2026", "2027")).geomm, do)()


def test_long_names_of_modalities_do_not_touch():
    names = ["optical_of_sentinel_two_surface_reflectance", "optical_of_another_satellite_surface_reflectance"]
    cube = geomm.from_xarray(
        {n: array(["B02", "B03", "B04"], DAYS[:1]) for n in names}, dict.fromkeys(names, "sentinel2-l2a")
    )
    for axes in (geomm.ChipDataset(cube, geomm.ChipGrid(tuple(UTM.shape), 16), names).plot(2)[0], cube.geomm.plot()):
        inside(axes[0].figure)
        boxes = [ax.title.get_window_extent() for ax in axes]
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


def test_a_cube_says_the_unit_of_its_pixels():
    assert "pixels of 10 m in EPSG:32632" in cube_of()._repr_html_()
    degrees = GeoBox.from_bbox((9.0, 38.0, 9.02, 38.02), "EPSG:4326", resolution=0.001)
    assert "pixels of 0.001° in EPSG:4326" in cube_of(degrees)._repr_html_()


def maps_of():
    values = np.full((2, *UTM.shape), 0.5, np.float32)
    return xr.Dataset({"probability": (("class_name", "y", "x"), values)}, {**xr_coords(UTM), "class_name": ["a", "b"]})


def chips_of():
    return geomm.ChipDataset(cube_of(), geomm.ChipGrid(tuple(UTM.shape), 16), ["s2"])


WRONG = {
    "one axes for two bands": (lambda: maps_of().geomm.plot("probability", ax=plt.subplots()[1]), "class_name=0"),
    "no axes": (lambda: maps_of().isel(class_name=0).geomm.plot(ax="x"), r"plt.subplots\(\)"),
    "one axes for modalities": (lambda: cube_of().geomm.plot.valid(ax=plt.subplots()[1]), 'valid."s1", ax=ax'),
    "a text for a map": (lambda: cube_of().geomm.explore(map="x"), "folium.Map()"),
    "a text for a map of chips": (lambda: chips_of().explore(map="x"), "folium.Map()"),
    "a text for a map of maps": (lambda: maps_of().geomm.explore(map="x"), "folium.Map()"),
    "numbers of chips": (lambda: chips_of().plot([3, 5]), r"plot\(numbers=\[3, 5\]\)"),
    "one number of a chip": (lambda: chips_of().plot(numbers=3), r"numbers=\[3\]"),
    "half a chip": (lambda: chips_of().plot(numbers=[1.5]), r"numbers=\[3, 5\]"),
    "a name for chips": (lambda: chips_of().plot("s2"), r"plot\(4\)"),
    "numbers for calibrations": (lambda: charts.reliability([1, 2]), "evaluate"),
    "a number for a calibration": (lambda: charts.reliability(1), "evaluate"),
    "a plain figure": (lambda: charts.intervals({"a": 0.5}, "x"), r"Interval\(value, low, high\)"),
    "figures without names": (lambda: charts.intervals([0.5], "x"), "Interval"),
    "a label that is none": (lambda: charts.intervals({"a": Interval(0.5, 0.4, 0.6)}, 3), "mean IoU"),
    "a name for a subset": (lambda: charts.missing({"a": 1}, "x"), r"\(\"optical\",\)"),
    "a figure of a subset": (lambda: charts.missing({("a",): 1}, "x"), r"Interval\(value, low, high\)"),
    "losses without names": (lambda: charts.curves([1.0, 2.0]), "fitted.losses"),
    "losses that are text": (lambda: charts.curves({"a": "low"}), "fitted.losses"),
    "one loss": (lambda: charts.curves({"a": 0.5}), "fitted.losses"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_message_names_the_fix(name):
    do, fix = WRONG[name]
    with pytest.raises(GeommError, match=fix):
        do()


def test_what_is_meant_is_drawn():
    one, several = charts.curves({"a": (3.0, 2.0, 1.0)}), charts.curves({"a": [[3.0, 2.0, 1.0]]})
    np.testing.assert_array_equal(one.axes[0].lines[0].get_xydata(), several.axes[0].lines[0].get_xydata())
    assert len(maps_of().geomm.plot("probability", ax=plt.subplots(1, 2)[1])) == 2
    with pytest.raises(UnknownNameError):
        cube_of().geomm.plot("s3", time=0)


def test_numbers_of_intervals_stand_clear_of_lines():
    found = {("a", "b"): Interval(0.9, 0.85, 0.95), ("a",): Interval(0.3, 0.2, 0.4), ("b",): Interval(0.5, 0.4, 0.6)}
    figure = charts.missing(found, "IoU")
    figure.canvas.draw()
    axes = figure.axes[1]
    assert [t.get_text() for t in axes.texts] == ["0.900", "0.300", "0.500"]
    assert all(t.get_window_extent().x0 > axes.bbox.x1 for t in axes.texts)
    assert all(t.get_window_extent().x1 <= figure.bbox.x1 for t in axes.texts)
