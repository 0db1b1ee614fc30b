"""The page of a search, hits as files, hits as lines."""

from __future__ import annotations

import base64
import functools
import io
import json
import re
from html.parser import HTMLParser

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from pyproj import Geod
from shapely.geometry import MultiPolygon, Polygon, box

from geomm.charts import DARK, LIGHT
from geomm.errors import ConfigError, OutputError
from geomm.pages import plain
from geomm.pipeline.gallery import HEAD, Gallery, hits_table, overview, pictures, write_gallery, write_hits
from geomm.pipeline.gallery.hits import read_hits, unwrapped

HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;\x1b[31m\u202e"
LINKS = (
    "https://example.org/items/a?x=1&y=2",
    "http://example.org/b.json",
    "file:///data/items/c.json",
    "items/d.json",
    "../e.json",
    "/data/my items/f.json",
)
NO_LINKS = (
    "javascript:alert(1)",
    " javascript:alert(1)",
    "java\tscript:alert(1)",
    "JaVaScRiPt:alert(1)//x.json",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "//example.org/g.json",
    "/\\example.org/g.json",
    "\\\\host\\share\\h.json",
    "file://host/i.json",
    "https:",
    "http://[broken/i.json",
    "s3://bucket/j.json",
    "S2A_MSIL2A_20210604",
)


def png_of(grey, side=32):
    buffer = io.BytesIO()
    imsave(buffer, np.broadcast_to(np.asarray(grey, float), (side, side)), format="png", cmap="gray", vmin=0, vmax=1)
    return buffer.getvalue()


@pytest.fixture
def hits():
    """Four hits: a whole one, a hostile one, one of many times, one of which nothing is known."""
    return geopandas.GeoDataFrame(
        {
            "id": ["a", HOSTILE, "c", None],
            "score": [0.9, 0.5, 0.25, np.nan],
            "datetime": pd.to_datetime(
                ["2021-06-04T10:50:31Z", "2021-07-01", "2020-01-01", None], format="ISO8601", utc=True
            ),
            "sensors": [["sentinel-2-l2a", "sentinel-1-rtc"], [HOSTILE], np.array(["landsat-oli-l2"]), None],
            "text": ["a lake beside a town", HOSTILE, "", None],
            "derived": [True, False, False, False],
            "items": [["https://example.org/items/a"], [HOSTILE], [], None],
        },
        geometry=[box(10, 54.9, 10.02, 54.92), box(10.1, 55, 10.12, 55.02), box(9, 55, 9.02, 55.02), None],
        crs="EPSG:4326",
    )


class Page(HTMLParser):
    """What a page is made of."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], [], []
        self.feed(path.read_text())
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]
        if tag not in ("meta", "img", "source"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.words.append(data)

    def values(self, tag, name):
        return [v for t, n, v in self.attributes if (t, n) == (tag, name)]


def image(address):
    head, data = address.split(",", 1)
    assert head == "data:image/png;base64"
    return imread(io.BytesIO(base64.b64decode(data, validate=True)), format="png")


def test_page_needs_nothing_else_and_escapes_everything(hits, tmp_path):
    grey, heat = png_of(0.5), np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    path = write_gallery(
        tmp_path / "new" / "g.html",
        hits,
        [grey, grey, None, None],
        [heat, None, heat, None],
        query=HOSTILE,
        notes=[HOSTILE, "place: all"],
    )
    page, text = Page(path), path.read_text()
    assert not {"script", "link", "iframe", "object", "form", "base"} & set(page.tags)
    assert not [a for a in page.attributes if a[1].startswith("on")]
    assert "url(" not in text
    assert "@import" not in text
    assert page.values("meta", "content")[0].startswith("default-src 'none'")
    assert page.values("a", "href") == ["https://example.org/items/a"]
    for address in page.values("img", "src") + page.values("source", "srcset"):
        assert image(address).ndim == 3
    assert len(page.values("img", "src")) == 1 + 4  # the map; picture and heat, picture, heat alone, nothing
    said = " ".join(page.words)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert (
        said.count(plain(HOSTILE)) == 2 + 1 + 5
    )  # title, query; note; in the head a sensor, then name, sensor, text, item
    assert page.values("li", "id") == ["hit-1", "hit-2", "hit-3", "hit-4"]
    assert page.tags.count("abbr") == 1
    for word in (
        "derived",
        "2021-06-04 10:50 UTC",
        "54.9100° N, 10.0100° E",
        "0.900",
        "sentinel-2-l2a, sentinel-1-rtc",
        "place: all",
    ):
        assert word in said
    assert said.count("No text is known.") == 2
    assert said.count("No picture.") == 1
    assert "1 without a footprint" in said


@pytest.mark.parametrize("address", LINKS + NO_LINKS)
def test_only_addresses_become_links(address, hits, tmp_path):
    one = hits.iloc[:1].assign(items=[[address]])
    page = Page(write_gallery(tmp_path / "g.html", one, [None], [None], query="x"))
    assert page.values("a", "href") == ([address] if address in LINKS else [])
    name = plain(address).rstrip("/").rsplit("/", 1)[-1].split("?")[0] if address in LINKS else plain(address)
    assert name in page.words


def test_page_is_the_same_twice_and_replaces_an_older_one(hits, tmp_path):
    heat = np.random.default_rng(0).random((7, 7), np.float32)
    path = tmp_path / "g.html"
    path.write_text("old")
    first = write_gallery(path, hits, [png_of(0.2)] * 4, [heat] * 4, query="a lake").read_bytes()
    assert write_gallery(path, hits, [png_of(0.2)] * 4, [heat] * 4, query="a lake").read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["g.html"]


def test_no_hits_say_so(hits, tmp_path):
    page = Page(write_gallery(tmp_path / "g.html", hits.iloc[:0], [], [], query="a volcano", notes=["place: Jutland"]))
    said = " ".join(page.words)
    assert "No hits." in said
    assert "0 hits" in said
    assert "place: Jutland" in said
    assert "img" not in page.tags
    empty = geopandas.GeoDataFrame({"geometry": []})
    Page(write_gallery(tmp_path / "g.html", empty, [], [], query=""))
    assert hits_table(empty) == []


def test_few_columns_are_enough(tmp_path):
    bare = geopandas.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs="EPSG:4326")
    page = Page(write_gallery(tmp_path / "g.html", bare, [png_of(0.1)], [None], query="x"))
    assert "1 hit" in page.words
    assert hits_table(bare) == [["1", "-", "-", "-", "0.5000° N, 0.5000° E", "-", "-"]]


def test_sensors_of_an_index_are_told_apart(hits):
    joined = hits.iloc[:2].assign(sensors=["landsat-oli-l1,landsat-tirs-l1", ""])
    assert [h.sensors for h in read_hits(joined)] == [("landsat-oli-l1", "landsat-tirs-l1"), ()]


def test_what_cannot_be_shown_is_refused(hits, tmp_path):
    target, grey = tmp_path / "g.html", png_of(0.5)
    with pytest.raises(ConfigError, match="4 hits, 3 pictures, 4 heats"):
        write_gallery(target, hits, [grey] * 3, [None] * 4, query="x")
    with pytest.raises(ConfigError, match=r"not a PNG. Where: picture 1"):
        write_gallery(target, hits, [grey, b"\xff\xd8jpeg", grey, grey], [None] * 4, query="x")
    with pytest.raises(ConfigError, match="not a PNG"):
        write_gallery(target, hits, [grey[:60]] * 4, [np.zeros((2, 2))] * 4, query="x")
    with pytest.raises(ConfigError, match="rows and columns"):
        write_gallery(target, hits, [grey] * 4, [np.zeros((2, 2, 2))] * 4, query="x")
    with pytest.raises(ConfigError, match="to_crs"):
        write_gallery(target, hits.to_crs("EPSG:32632"), [grey] * 4, [None] * 4, query="x")
    with pytest.raises(ConfigError, match="CRS None"):
        write_hits(tmp_path / "h.gpkg", hits.set_crs(None, allow_override=True))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_gallery(tmp_path / "file" / "g.html", hits, [grey] * 4, [None] * 4, query="x")
    assert not target.exists()


def test_heat_lies_where_it_belongs_in_the_colour_of_the_scale():
    heats = [np.zeros((4, 4), np.float32), np.zeros((6, 3), np.float32), None]
    heats[0][0, 3], heats[1][5, 0] = 1.0, np.nan  # top right; bottom left
    scale = pictures.HeatScale(0.0, 1.0)
    hot = imread(io.BytesIO(pictures.heated(png_of(0.0), heats[0], scale)), format="png")
    assert hot.shape[:2] == (256, 256)  # 32 pixels, eight times
    want = {share: np.array(colormaps["inferno"](share)[:3]) for share in (0.0, 1.0)}
    np.testing.assert_allclose(hot[4, -4, :3], 0.75 * want[1.0] + 0.25 * 0.15, atol=0.01)
    np.testing.assert_allclose(hot[-4, 4, :3], 0.25 * want[0.0] + 0.75 * 0.15, atol=0.01)
    bright = imread(io.BytesIO(pictures.heated(png_of(1.0, 300), heats[1], scale)), format="png")
    assert bright.shape[:2] == (300, 300)
    np.testing.assert_allclose(bright[-5, 5, :3], 0.65, atol=0.01)  # unknown heat: the picture alone
    np.testing.assert_allclose(bright[5, 5, :3], 0.25 * want[0.0] + 0.75 * 0.65, atol=0.01)


def test_one_scale_for_all_heats():
    generator = np.random.default_rng(0)
    heats = [generator.normal(size=(8, 8)).astype(np.float32), None, 5 + generator.normal(size=(3, 4))]
    heats[0][0, 0] = np.nan
    scale = pictures.HeatScale.of(heats)
    values = np.concatenate([heats[0].ravel()[1:], heats[2].ravel()])
    assert (scale.low, scale.high) == pytest.approx(tuple(np.quantile(values, [0.02, 0.998])), rel=1e-6)
    assert scale.share(np.array([[scale.low - 9, scale.high + 9]])).tolist() == [[0.0, 1.0]]
    assert pictures.HeatScale.of([None]) is None
    assert pictures.HeatScale.of([np.full((2, 2), np.nan)]) is None
    flat = pictures.HeatScale.of([np.ones((2, 2))])
    assert flat.share(np.ones((2, 2))).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "L", "LA", "P"])
def test_pictures_of_any_colours_carry_heat(kind):
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (255, 255, 255)).convert(kind).save(buffer, "PNG")
    found = imread(
        io.BytesIO(pictures.heated(buffer.getvalue(), np.full((1, 1), np.nan), pictures.HeatScale(0, 1))), format="png"
    )
    assert found.shape[:2] == (130, 260)
    np.testing.assert_allclose(found[..., :3], 0.65, atol=0.01)


def test_map_has_both_themes_and_needs_footprints(hits):
    known = read_hits(hits)
    day, night = (imread(io.BytesIO(overview.overview(known, t)), format="png") for t in (LIGHT, DARK))
    assert day.shape == night.shape
    assert day[..., :3].mean() > 0.7 > 0.3 > night[..., :3].mean()
    assert overview.overview(known, LIGHT) == overview.overview(known, LIGHT)
    assert overview.overview([known[3]], LIGHT) is None


@pytest.mark.parametrize("lat", [-70.0, 0.0, 56.0])
@pytest.mark.parametrize("wide", [0.003, 0.7, 25.0])
def test_scale_bar_is_as_long_as_it_says(lat, wide):
    axes = Figure(figsize=(5, 3)).add_axes((0, 0, 1, 1))
    axes.set_xlim(10, 10 + wide)
    axes.set_ylim(lat - wide / 4, lat + wide / 4)
    overview._scale_bar(axes, LIGHT)
    (left, right), said = axes.lines[0].get_xdata(), axes.texts[0].get_text()
    number, unit = said.split()
    metres = float(number) * (1000 if unit == "km" else 1)
    assert Geod(ellps="WGS84").inv(left, lat, right, lat)[2] == pytest.approx(metres, rel=0.008)
    assert 0.08 < (right - left) / wide <= 0.25


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 300)), min_size=1, max_size=25))
def test_labels_cover_nothing_and_name_every_rank(places):
    ranks = list(range(1, len(places) + 1))
    found = overview._labels(np.array(places, float), ranks)
    named = []
    for _, label in found:
        for part in re.sub(r" \+\d+$", "", label).split(", "):
            first, *last = part.split("\u2013")
            named += range(int(first), int((last or [first])[0]) + 1)
        named += [0] * int((re.findall(r"\+(\d+)$", label) or [0])[0])
    assert len(named) == len(ranks)
    assert set(named) - {0} <= set(ranks)
    half = [(overview._LETTER * len(label) + 8) / 2 for _, label in found]
    for k in range(len(found)):
        for n in range(k):
            across, down = np.abs(found[k][0] - found[n][0])
            assert across >= half[k] + half[n] or down >= overview._HEIGHT
    assert overview._ranks([1, 2, 4, 5, 6, 9]) == "1, 2, 4\u20136, 9"
    assert overview._ranks([1, 3, 5, 7, 9, 10]) == "1, 3, 5 +3"


def test_hits_around_longitude_180_lie_beside_each_other():
    west, east = box(-179.9, 60, -179.8, 60.1), box(179.7, 60, 179.8, 60.1)
    cut = MultiPolygon([box(179.9, 60, 180, 60.1), box(-180, 60, -179.9, 60.1)])
    moved = unwrapped([west, east, cut])
    assert shapely.total_bounds(moved).tolist() == pytest.approx([179.7, 60, 180.2, 60.1])
    table = geopandas.GeoDataFrame(geometry=[cut, west], crs="EPSG:4326")
    assert [h.place for h in read_hits(table)] in (
        ["60.0500° N, 180.0000° W", "60.0500° N, 179.8500° W"],
        ["60.0500° N, 180.0000° E", "60.0500° N, 179.8500° W"],
    )
    plain_ones = [box(-90, 0, -89, 1), box(89, 0, 90, 1), box(0, 0, 1, 1)]
    assert unwrapped(plain_ones) == plain_ones


def test_geojson_follows_the_rfc(hits, tmp_path):
    clockwise = hits.assign(geometry=[Polygon([(0, 0), (0, 1), (1, 1), (1, 0)]), *hits.geometry[1:]])
    content = json.loads(write_hits(tmp_path / "h.geojson", clockwise).read_text())
    assert "crs" not in content
    features = content["features"]
    assert [f["properties"]["rank"] for f in features] == [1, 2, 3, 4]
    ring = shapely.LinearRing(features[0]["geometry"]["coordinates"][0])
    assert ring.is_ccw
    assert features[3]["geometry"] is None
    first = features[0]["properties"]
    assert first["datetime"] == "2021-06-04T10:50:31Z"
    assert first["sensors"] == ["sentinel-2-l2a", "sentinel-1-rtc"]
    assert first["derived"] is True
    assert features[0]["id"] == "a"
    assert "id" not in features[3]
    assert features[1]["properties"]["text"] == HOSTILE
    assert (features[3]["properties"]["score"], features[3]["properties"]["datetime"]) == (None, None)
    assert features[2]["properties"]["sensors"] == ["landsat-oli-l2"]


@pytest.mark.parametrize("name", ["h.geojson", "h.json", "h.gpkg", "h.parquet", "H.GPKG"])
def test_hits_come_back_from_every_file(name, hits, tmp_path):
    path = tmp_path / name
    path.write_text("old")
    assert write_hits(path, hits) == path
    assert {p.name for p in tmp_path.iterdir()} == {name} | ({"h.qml"} if name == "h.geojson" else set())
    layer = {"layer": "hits"} if name.lower().endswith("gpkg") else {}  # the other table holds its style
    read = geopandas.read_parquet if name.endswith("parquet") else functools.partial(geopandas.read_file, **layer)
    again = read(path)
    assert again.crs.to_epsg() == 4326
    assert again["rank"].tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(again["score"], hits["score"])
    assert again["text"].fillna("").tolist() == ["a lake beside a town", HOSTILE, "", ""]
    assert pd.to_datetime(again["datetime"], utc=True, format="ISO8601").tolist()[:3] == hits["datetime"].tolist()[:3]
    sensors = again["sensors"].iloc[0]
    assert list(json.loads(sensors) if isinstance(sensors, str) else sensors) == hits["sensors"].iloc[0]
    for mine, theirs in zip(hits.geometry[:3], again.geometry[:3], strict=True):
        assert mine.symmetric_difference(theirs).area < 1e-9
    none = write_hits(tmp_path / f"none{path.suffix}", hits.iloc[:0])
    assert len(read(none)) == 0


def test_a_file_that_fails_leaves_the_older_one(hits, tmp_path):
    path = write_hits(tmp_path / "h.parquet", hits)
    before = path.read_bytes()
    with pytest.raises(OutputError, match="cannot be written"):
        write_hits(path, hits.assign(other=[0.1, "x", object(), 3]))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["h.parquet"]
    with pytest.raises(ConfigError, match=r"\.geojson, \.json, \.gpkg, \.parquet"):
        write_hits(tmp_path / "h.shp", hits)


@pytest.mark.parametrize("name", ["h.geojson", "h.gpkg", "h.parquet", "h.html"])
def test_a_file_that_cannot_take_its_place_is_not_left_aside(name, hits, tmp_path):
    (tmp_path / name).mkdir()
    gallery = lambda path, hits: write_gallery(path, hits, [None] * 4, [None] * 4, query="x")
    with pytest.raises(OutputError, match="cannot be written"):
        (gallery if name == "h.html" else write_hits)(tmp_path / name, hits)
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_lines_for_a_terminal(hits):
    rows = hits_table(hits)
    assert all(len(r) == len(HEAD) for r in rows)
    assert rows[0] == [
        "1",
        "0.900",
        "a",
        "2021-06-04 10:50 UTC",
        "54.9100° N, 10.0100° E",
        "sentinel-2-l2a, sentinel-1-rtc",
        "a lake beside a town (derived)",
    ]
    assert rows[3][:1] + rows[3][3:] == ["4", "-", "-", "-", "-"]
    assert "\x1b" not in "".join(rows[1])
    assert "\u202e" not in "".join(rows[1])
    long = hits.iloc[:1].assign(text=["word " * 40], derived=[False])
    assert hits_table(long)[0][-1].endswith("word…")
    assert len(hits_table(long)[0][-1]) <= 60
    times = pd.Series(
        [["2021-06-05T00:00:00Z", np.datetime64("2021-06-04T12:00")], "summer", "2021-06-05T01:00:00+02:00", ""]
    )
    shown = [r[3] for r in hits_table(hits.assign(datetime=times))]
    assert shown == ["2021-06-04 12:00 UTC to 2021-06-05 00:00 UTC", "summer", "2021-06-04 23:00 UTC", "-"]
    named = hits.iloc[:1].assign(sensors=[{"optical": "sentinel-2-l2a", "radar": None}])
    assert hits_table(named)[0][5] == "sentinel-2-l2a"


class Frame(HTMLParser):
    """The frame that a notebook shows."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes = [], {}
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes |= dict(attrs)

    def handle_data(self, data):
        raise AssertionError(f"text beside the frame: {data!r}")


def test_a_notebook_shows_the_page_in_a_frame_that_runs_nothing(hits, tmp_path):
    heat = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    found = Gallery(HOSTILE, hits, [png_of(0.5), None, png_of(0.2), None], [heat, None, heat, None], [HOSTILE])
    frame = Frame(found._repr_html_())
    assert frame.tags == ["div", "iframe"]
    assert frame.attributes["sandbox"] == ""
    assert "onerror" not in frame.attributes
    assert frame.attributes["srcdoc"] == found.save(tmp_path / "g.html").read_text()
    assert (len(found), repr(found)) == (4, f"Gallery({HOSTILE!r}, 4 hits)")
    assert len(geopandas.read_file(found.save(tmp_path / "g.geojson"))) == 4
    with pytest.raises(ConfigError, match="cannot be written as such a file"):
        found.save(tmp_path / "g.docx")


def test_pictures_stand_above_their_heat(hits):
    hot = np.zeros((8, 8), np.float32)
    hot[:4] = 1.0
    dear = hits.assign(text=["costs $5 or $6", "", "", ""])
    found = Gallery("a lake", dear, [png_of(0.5), None, png_of(0.2), None], [hot, None, hot, hot])
    axes = found.plot(most=3)
    figure = axes[0, 0].figure
    figure.canvas.draw()  # a text that is no formula can be drawn
    assert axes.shape == (2, 3)
    assert [a.get_title() for a in axes[0]] == ["1   score 0.900", "2   score 0.500", "3   score 0.250"]
    assert axes[1, 0].get_xlabel().startswith("derived: costs \\$5 or \\$6\nsentinel-2-l2a\n")
    np.testing.assert_allclose(axes[0, 0].get_images()[0].get_array()[..., :3], 0.5, atol=0.01)
    shown = axes[1, 0].get_images()[0].get_array()
    assert shown[:100].mean() > shown[-100:].mean() + 0.3  # the upper half is hot
    assert not axes[0, 1].get_images()
    assert figure.axes[-1].get_ylabel() == "heat: part of the score"
    assert Gallery("a lake", hits, [png_of(0.5)] * 4, [None] * 4).plot().shape == (1, 4)
    with pytest.raises(ConfigError, match="no hit to draw"):
        Gallery("a lake", hits.iloc[:0], [], []).plot()
    with pytest.raises(ConfigError, match="4 hits, at most 0"):
        found.plot(most=0)
    plt.close("all")
