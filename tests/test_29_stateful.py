"""Catalogs against a dictionary of items: whatever is added, changed, removed, written, searched or outlined."""

from __future__ import annotations

import copy
import datetime as dt
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pystac
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from geomm.catalog import open_catalog
from geomm.catalog.parquet import write_parquet
from geomm.errors import CatalogError
from geomm.pipeline.pairs import DAY, LEFT, Look, pair

SOAK = settings.default.max_examples > 50
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)

# kind of item -> its properties, its collection, and of each of its sensors the assets and the bands that they are
KINDS = {
    "s2": ({}, "sentinel-2-l2a", {"sentinel2-l2a": {"red": "B04", "nir": "B08", "scl": "SCL"}}),
    "marked": ({"s2:product_type": "S2MSI1C"}, "mine", {"sentinel2-l1c": {"red": "B04", "B10": "B10"}}),
    "landsat": (
        {"geomm:sensors": ["landsat-oli-l1", "landsat-tirs-l1"], "platform": "landsat-8"}, None,
        {"landsat-oli-l1": {"B2": "B2", "B3": "B3"}, "landsat-tirs-l1": {"B10": "B10"}},
    ),
    "s1": ({"platform": "sentinel-1a"}, "sentinel-1-rtc", {"sentinel1-rtc": {"vv": "VV", "vh": "VH"}}),
    "other": ({"instruments": ["camera"]}, "other", {"": {"photo": "photo"}}),
}  # fmt: skip
QUALITY = {"SCL"}
SENSORS = sorted({s for _, _, held in KINDS.values() for s in held if s})
ASSETS = sorted({a for _, _, held in KINDS.values() for assets in held.values() for a in assets})

IDS = st.sampled_from("abcdef")
TEXTS = st.sampled_from(
    [
        "",
        "x",
        "NULL",
        "it's",
        "'x': NULL, ",
        ", }",
        "a, b",
        "x|text=1",
        '"',
        "\\",
        "\u00e9\u6f22",
        "1",
        "1.0",
        "true",
        "[x]",
    ]
)
NUMBERS = st.sampled_from([0, 1, 1.0, 2, 0.5, -0.1, 1e-4, 1e22, 2**40, -9999])
MAYBE = {
    "text": TEXTS,
    "count": NUMBERS,
    "big": st.sampled_from([2**60, 2**60 + 1]),
    "flag": st.booleans(),
    "tags": st.lists(TEXTS, max_size=2),
    "series": st.lists(NUMBERS, max_size=3),
    "nested": st.fixed_dictionaries({"y": TEXTS}, optional={"a": st.fixed_dictionaries({"x": NUMBERS})}),
    "parts": st.lists(
        st.fixed_dictionaries({"k": TEXTS}, optional={"a": NUMBERS, "s": st.fixed_dictionaries({"m": NUMBERS})}),
        max_size=2,
    ),
    "created": st.sampled_from(["2024-02-01T00:00:00Z", "2024-02-01T00:00:00.5Z"]),
    "eo:cloud_cover": st.sampled_from([0, 10, 10.5, 50, 100.0]),
}
BAND = st.fixed_dictionaries(
    {"data_type": st.sampled_from(["uint16", "float32"])},
    optional={
        "aaa": TEXTS,
        "nodata": st.sampled_from([0, 0.5, "nan"]),
        "offset": st.sampled_from([0, -0.1, 1]),
        "scale": st.sampled_from([1, 1.0, 1e-4, 2]),
        "unit": TEXTS,
    },
)
ABOUT = {
    "roles": st.lists(st.sampled_from(["data", "reflectance"]), max_size=2),
    "title": TEXTS,
    "proj:shape": st.just([100, 100]),
    "raster:bands": st.lists(BAND, min_size=1, max_size=1),
    "eo:bands": st.lists(
        st.fixed_dictionaries({"description": TEXTS}, optional={"center_wavelength": NUMBERS}), min_size=1, max_size=1
    ),
    "file:size": st.integers(0, 3),
}


@st.composite
def assets(draw, key):
    href = f"https://example.org/{key}-{draw(st.integers(0, 2))}.tif"
    return {"href": href, "type": "image/tiff", **draw(st.fixed_dictionaries({}, optional=ABOUT))}


@st.composite
def spans(draw):
    """West, south, east, north; west is greater than east across the antimeridian."""
    west, width = draw(st.integers(-9, 9)) * 20, draw(st.integers(1, 4)) * 10
    south = draw(st.integers(-9, 8)) * 10
    east = west + width
    return (180 if west == -180 and east > 180 else west, south, east - 360 if east > 180 else east, south + 10)


@st.composite
def whens(draw):
    """Properties that say when."""
    hours = st.integers(0, 12).map(lambda k: (START + dt.timedelta(hours=12 * k)).isoformat().replace("+00:00", "Z"))
    first, last = sorted([draw(hours), draw(hours)])
    return draw(
        st.sampled_from(
            [
                {"datetime": first},
                {"datetime": None, "start_datetime": first, "end_datetime": last},
                {"datetime": last, "start_datetime": first, "end_datetime": last},
            ]
        )
    )


def placed(span, *, heights=False):
    """Return geometry and box of a span."""
    west, south, east, north = span
    pieces = [shapely.box(w, south, e, north) for w, e in lines(west, east) if w < e]
    shape = pieces[0] if len(pieces) == 1 else shapely.MultiPolygon(pieces)
    box = [west, south, 0, east, north, 9] if heights else [west, south, east, north]
    return {"geometry": json.loads(shapely.to_geojson(shape)), "bbox": box}


@st.composite
def items(draw, number, kind=None):
    kind = kind or draw(st.sampled_from(sorted(KINDS)))
    about, collection, held = KINDS[kind]
    names = sorted({a for mine in held.values() for a in mine})
    record = {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": draw(st.sampled_from([[], ["https://stac-extensions.github.io/eo/v1.1.0/schema.json"]])),
        "id": number,
        **placed(draw(spans()), heights=draw(st.booleans())),
        "links": [],
        "properties": {**draw(whens()), **copy.deepcopy(about), **draw(st.fixed_dictionaries({}, optional=MAYBE))},
        "assets": {
            name: draw(assets(name)) for name in draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
        },
    }
    return record | ({} if collection is None else {"collection": collection})


# the model ------------------------------------------------------------------------------------------------------------


def kind_of(item):
    for about, collection, held in KINDS.values():
        if item.get("collection") == collection and all(item["properties"].get(k) == v for k, v in about.items()):
            return held
    raise AssertionError(item)


def lines(west, east):
    return [(west, east)] if west <= east else [(west, 180), (-180, east)]


def time(text):
    return dt.datetime.fromisoformat(text)


def ends(item):
    about = item["properties"]
    return time(about.get("start_datetime", about["datetime"])), time(about.get("end_datetime", about["datetime"]))


def box_of(item):
    box = item["bbox"]
    return (box[0], box[1], box[3], box[4]) if len(box) == 6 else tuple(box)


def meets(item, *, span=None, first=None, last=None, ids=None, cloud=None):
    west, south, east, north = box_of(item)
    start, end = ends(item)
    return (
        (
            span is None
            or (
                south <= span[3]
                and span[1] <= north
                and any(a <= d and c <= b for a, b in lines(west, east) for c, d in lines(span[0], span[2]))
            )
        )
        and (first is None or end >= first)
        and (last is None or start <= last)
        and (ids is None or item["id"] in ids)
        and (cloud is None or item["properties"].get("eo:cloud_cover", 0) <= cloud)
    )


def offered(item, sensors):
    """Return sensors that were asked for -> bands of imagery that the item offers."""
    found = {}
    for sensor, names in kind_of(item).items():
        bands = {band: item["assets"][a]["href"] for a, band in names.items() if a in item["assets"]}
        if sensor in sensors and set(bands) - QUALITY:
            found[sensor] = bands
    return found


def plain(value):
    """Return what an item says in a form that a table can keep: without nothings, numbers of one kind."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [plain(v) for v in value]
    exact = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53
    return float(value) if exact else value


def said(form, item):
    """Return all that an item says to a form of catalog."""
    if form == "json":
        return json.dumps(item, sort_keys=True)
    item = plain({**item, "bbox": list(box_of(item))})
    for asset in item["assets"].values():
        for band in asset.get("raster:bands", ()):
            if "nodata" in band:
                band["nodata"] = repr(float(band["nodata"]))
    return json.dumps(item, sort_keys=True)


def shuffled(value, order):
    """Return the same JSON with the names of its objects in another order."""
    if isinstance(value, dict):
        names = order.sample(sorted(value), len(value))
        return {k: shuffled(value[k], order) for k in names}
    return [shuffled(v, order) for v in value] if isinstance(value, list) else value


def write(place, records, order):
    """Write items in any order, in both forms; return the catalogs."""
    records = [shuffled(r, order) for r in order.sample(records, len(records))]
    plain, table = place.with_suffix(".json"), place.with_suffix(".parquet")
    plain.write_text(json.dumps({"type": "FeatureCollection", "features": records}))
    if not records:
        with pytest.raises(CatalogError, match="no item to write"):
            write_parquet([], table)
        return {"json": open_catalog(plain)}
    assert write_parquet([pystac.Item.from_dict(r, preserve_dict=True) for r in records], table) == table
    return {"json": open_catalog(plain), "parquet": open_catalog(table)}


# the machine ----------------------------------------------------------------------------------------------------------


class CatalogMachine(RuleBasedStateMachine):
    """A catalog in either form finds what a loop over a dictionary finds, and tells what has changed."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.known, self.catalogs, self.number = {}, {}, 0
        self.prints = {"json": {}, "parquet": {}}

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(data=st.data(), numbers=st.lists(IDS, min_size=1, max_size=4, unique=True))
    def put(self, data, numbers):
        """Add items, or replace them."""
        self.known |= {number: data.draw(items(number)) for number in numbers}
        self.catalogs = {}

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def change(self, data):
        item = copy.deepcopy(self.known[data.draw(st.sampled_from(sorted(self.known)))])
        kind = data.draw(st.sampled_from(["property", "field", "band", "asset", "place", "time"]))
        asset = item["assets"][data.draw(st.sampled_from(sorted(item["assets"])))]
        if kind == "property":
            name = data.draw(st.sampled_from(sorted(MAYBE)))
            item["properties"].pop(name, None)
            if data.draw(st.booleans()):
                item["properties"][name] = data.draw(MAYBE[name])
        elif kind == "field":
            name = data.draw(st.sampled_from(sorted(ABOUT)))
            asset.pop(name, None)
            if data.draw(st.booleans()):
                asset[name] = data.draw(ABOUT[name])
        elif kind == "band":
            asset["raster:bands"] = [data.draw(BAND)]
        elif kind == "asset":
            asset["href"] = f"https://example.org/{data.draw(st.integers(0, 99))}.tif"
        elif kind == "place":
            item |= placed(data.draw(spans()))
        else:
            for name in ("datetime", "start_datetime", "end_datetime"):
                item["properties"].pop(name, None)
            item["properties"] |= data.draw(whens())
        self.known[item["id"]] = item
        self.catalogs = {}

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove(self, data):
        del self.known[data.draw(st.sampled_from(sorted(self.known)))]
        self.catalogs = {}

    def write(self, order):
        """Write what is known, in both forms; under the old names or new ones."""
        self.number += order.randrange(2)
        self.catalogs = write(self.folder / str(self.number), list(self.known.values()), order)

    @rule(order=st.randoms(use_true_random=False), alone=st.lists(IDS, max_size=2))
    def outline_all(self, order, alone):
        """Fingerprints are those of the items, whatever else a catalog holds and in whatever order."""
        self.write(order)
        some = [item for number, item in self.known.items() if number in alone]
        for catalogs, wanted in (
            (self.catalogs, self.known.values()),
            (write(self.folder / "some", some, order), some),
        ):
            for form, catalog in catalogs.items():
                outlines = catalog.outline()
                self.check(outlines, wanted, SENSORS)
                for outline in outlines:
                    told, seen = said(form, self.known[outline.id]), self.prints[form]
                    assert seen.setdefault(told, outline.fingerprint) == outline.fingerprint
                assert len(set(self.prints[form].values())) == len(self.prints[form])

    def check(self, outlines, wanted, sensors):
        wanted = [i for i in wanted if offered(i, sensors)]
        assert [o.id for o in outlines] == [i["id"] for i in sorted(wanted, key=lambda i: (ends(i)[0], i["id"]))]
        for outline in outlines:
            item = self.known[outline.id]
            assert outline.collection == item.get("collection", "")
            assert (outline.start, outline.end) == ends(item)
            assert tuple(outline.bbox) == box_of(item)
            assert outline.footprint.equals(shapely.geometry.shape(item["geometry"]))
            assert sorted(outline.sensors) == sorted(offered(item, sensors))
            assert outline.cloud_cover == item["properties"].get("eo:cloud_cover", 0.0)

    @rule(
        data=st.data(),
        order=st.randoms(use_true_random=False),
        span=st.one_of(st.none(), spans()),
        exact=st.booleans(),
        days=st.tuples(*[st.one_of(st.none(), st.integers(0, 6))] * 2),
        whole=st.booleans(),
        ids=st.one_of(st.none(), st.lists(IDS, max_size=3)),
        sensors=st.one_of(st.none(), st.lists(st.sampled_from(SENSORS), unique=True)),
        cloud=st.sampled_from([None, None, 0, 10, 10.5, 60]),
    )
    def search(self, data, order, span, exact, days, whole, ids, sensors, cloud):
        if not self.catalogs:
            self.write(order)
        first, last = (None if d is None else START + dt.timedelta(days=d) for d in days)
        if first and last and first > last:
            first, last = last, first
        texts = [".." if d is None else d.isoformat()[: 10 if whole else 19] for d in (first, last)]
        when = None if first is last is None else "/".join(texts)
        if whole and last:
            last += dt.timedelta(days=1, microseconds=-1)
        aoi = span
        if span and exact and span[0] < span[2]:
            aoi = json.loads(shapely.to_geojson(shapely.box(*span)))
        asked = SENSORS if sensors is None else sensors
        for catalog in self.catalogs.values():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                scenes = catalog.search(
                    aoi, when, sensors=sensors, ids=ids, cloud_cover=cloud, sentinel2_offset=0.0
                )  # fmt: skip
            found = [i for i in self.known.values() if meets(i, span=span, first=first, last=last, cloud=cloud)]
            wanted = [
                (ends(i)[0], i["id"], sensor, bands)
                for i in found if ids is None or i["id"] in ids
                for sensor, bands in offered(i, asked).items()
            ]  # fmt: skip
            assert [
                (s.time, s.id, s.sensor, {name: source.href for name, source in s.bands.items()}) for s in scenes
            ] == sorted(wanted, key=lambda scene: scene[:3])
            assert all(s.bbox == box_of(self.known[s.id]) for s in scenes)
            self.check(catalog.outline(aoi, when, sensors=sensors, cloud_cover=cloud), found, asked)


TestCatalog = CatalogMachine.TestCase
TestCatalog.settings = settings(max_examples=200 if SOAK else 8, stateful_step_count=50 if SOAK else 20)


# fingerprints ---------------------------------------------------------------------------------------------------------


@given(st.data(), st.sampled_from(["s2", "landsat"]), st.integers(2, 4), st.randoms(use_true_random=False))
@settings(max_examples=500 if SOAK else 25)
def test_company_does_not_change_a_fingerprint(tmp_path_factory, data, kind, number, order):
    records = [data.draw(items(f"i{k}", kind)) for k in range(number)]
    place = tmp_path_factory.getbasetemp() / "company"
    together, alone = write(place, records, order), write(place.with_name("alone"), records[:1], order)
    for form, catalog in together.items():
        found = {o.id: o.fingerprint for o in catalog.outline()}
        assert [o.fingerprint for o in alone[form].outline()] == [v for k, v in found.items() if k == "i0"]


def record(number, *, properties=None, **asset):
    return {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [], "id": number, **placed((0, 0, 10, 10)),
        "links": [], "collection": "sentinel-2-l2a",
        "properties": {"datetime": "2024-01-01T00:00:00Z", **(properties or {})},
        "assets": {"red": {"href": "https://example.org/red.tif", "type": "image/tiff", **asset}},
    }  # fmt: skip


def prints(place, *records):
    assert write_parquet([pystac.Item.from_dict(r, preserve_dict=True) for r in records], place) == place
    return {o.id: o.fingerprint for o in open_catalog(place).outline()}


@pytest.mark.parametrize(
    ("mine", "other"),
    [
        ({"raster:bands": [{"scale": 1}]}, {"raster:bands": [{"scale": 0.5}]}),
        ({"raster:bands": [{"scale": 1, "unit": "m"}]}, {"raster:bands": [{"unit": "m"}]}),
        ({"raster:bands": [{"a": 1, "c": 1}]}, {"raster:bands": [{"b": 1, "c": 1}]}),
        ({"raster:bands": [{"m": {"x": 1}}]}, {"raster:bands": [{"m": {"x": 0.5, "y": 1}}]}),
        ({"eo:bands": [{"name": "a"}]}, {"eo:bands": [{"name": "a", "common_name": "red"}, {"name": "red"}]}),
        ({"proj:shape": [1, 2]}, {"proj:shape": [1.5]}),
        ({"title": "a"}, {"roles": ["data"], "file:size": 7, "proj:transform": [0.5]}),
    ],
)
def test_what_others_have_is_not_told(tmp_path, mine, other):
    """Numbers become floats, fields come in another order, and nothings appear: nothing that the item says."""
    alone = prints(tmp_path / "a.parquet", record("a", **mine))["a"]
    beside = record("b", properties={"more": 1}, **other)
    beside["assets"]["nir"] = {"href": "https://example.org/nir.tif"}
    for first, last in ((record("a", **mine), beside), (beside, record("a", **mine))):
        assert prints(tmp_path / "b.parquet", first, last)["a"] == alone
    assert prints(tmp_path / "c.parquet", record("b", **other))["b"] != alone


def test_no_two_items_say_the_same(tmp_path):
    """Texts that look like what lies between texts, or like nothing, or like other kinds of values."""
    told = [
        {}, {"a": ""}, {"a": "x"}, {"a": "x|b=1:y"}, {"a": "x", "b": "y"}, {"a": 'x|["b"]=1:y'}, {"a": "NULL"},
        {"l": []}, {"l": [""]}, {"l": ["", ""]}, {"l": ["a, b"]}, {"l": ["a", "b"]}, {"l": ["a,1:b"]}, {"l": [None]},
        {"s": [{"k": ""}]}, {"s": [{"k": "NULL"}]}, {"s": [{"k": "'x': NULL, "}]}, {"s": [{"k": ", }"}]},
        {"s": [{"k": "}"}]}, {"s": [{"k": "x", "n": "y"}]}, {"s": [{"k": "x|n=y"}]}, {"s": [{"k": "x"}, {"n": "y"}]},
        {"n": {"a": "x", "b": "y"}}, {"n.a": "x", "n.b": "y"}, {"big": 2**60}, {"big": 2**60 + 1}, {"flag": True},
        {"flag": False},
    ]  # fmt: skip
    found = prints(tmp_path / "a.parquet", *(record(f"i{k:02d}", properties=p) for k, p in enumerate(told)))
    same = {}
    for number, digest in found.items():
        same.setdefault(digest, []).append(number)
    assert [told[int(n[1:])] for group in same.values() if len(group) > 1 for n in group] == []
    assert prints(tmp_path / "b.parquet", record("i00"))["i00"] == found["i00"]


def test_a_new_version_of_a_local_file_is_another_item(tmp_path):
    path = tmp_path / "red.tif"
    path.write_bytes(b"1")
    one = record("a", href="red.tif")
    one["assets"]["nir"] = {"href": "nir.tif"}
    turned = one | {"assets": dict(reversed(one["assets"].items()))}
    found = []
    for item in (one, turned):
        (tmp_path / "item.json").write_text(json.dumps(item))
        found.append(open_catalog(tmp_path / "item.json").outline()[0].fingerprint)
    assert found[0] == found[1]
    os.utime(path, ns=(1, 1))
    assert open_catalog(tmp_path / "item.json").outline()[0].fingerprint != found[0]


@pytest.mark.parametrize("form", ["json", "parquet"])
def test_outlines_name_sensors_whose_imagery_is_there(tmp_path, form):
    """The thermal instrument of Landsat was off, an item holds nothing but a quality band or a picture."""
    assets = {
        "both": {"blue": {}, "lwir11": {}}, "optical": {"blue": {}}, "quality": {"qa_pixel": {}},
        "picture": {"blue": {"roles": ["thumbnail"]}, "lwir11": {"type": "image/png"}},
        "file": {"SR_B2.TIF": {}}, "bands": {"data": {"bands": [{"name": "green"}, {"name": "lwir11"}]}},
        "named": {"data": {"eo:bands": [{"name": "lwir11"}]}},
    }  # fmt: skip
    records = []
    for number, mine in assets.items():
        item = record(number, properties={"platform": "landsat-8"}) | {"collection": "landsat-c2-l2"}
        item["assets"] = {k: {"href": f"https://example.org/{k}", "type": "image/tiff"} | a for k, a in mine.items()}
        records.append(item)
    if form == "json":
        path = tmp_path / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": records}))
    else:
        path = write_parquet([pystac.Item.from_dict(r) for r in records], tmp_path / "items.parquet")
    optical, thermal = "landsat-oli-l2", "landsat-tirs-l2"
    catalog = open_catalog(path)
    found = {o.id: set(o.sensors) for o in catalog.outline(sensors=[optical, thermal])}
    scenes = catalog.search(sensors=[optical, thermal])
    assert found == {number: {s.sensor for s in scenes if s.id == number} for number in {s.id for s in scenes}}
    assert found == {
        "both": {optical, thermal}, "optical": {optical}, "file": {optical}, "bands": {optical, thermal},
        "named": {thermal},
    }  # fmt: skip


# pairs ----------------------------------------------------------------------------------------------------------------

RANKED = ("one", "two", "three")
CELLS = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 4), st.integers(1, 4))  # column, row, size


@st.composite
def looks(draw, sensors=RANKED, number=12):
    found = draw(st.lists(st.tuples(st.sampled_from(sensors), CELLS, st.integers(0, 24)), min_size=1, max_size=number))
    return [(f"i{k}", sensor, cells, quarter / 4) for k, (sensor, cells, quarter) in enumerate(found)]


def seen(look):
    number, sensor, (x, y, width, height), day = look
    return Look(number, sensor, START + dt.timedelta(days=day), shapely.box(x, y, x + width, y + height))


def covers(look):
    x, y, width, height = look[2]
    return {(x + dx, y + dy) for dx in range(width) for dy in range(height)}


def near(one, other, within):
    (x, y, width, height), (a, b, broad, high) = one[2], other[2]
    return x <= a + broad and a <= x + width and y <= b + high and b <= y + height and abs(one[3] - other[3]) <= within


def pair_slowly(found, order, within):
    """Group looks as the function says it does, over cells instead of shapes."""
    ranked = sorted(found, key=lambda look: (order.index(look[1]), look[3], look[0]))
    covered, groups = {look: set() for look in ranked}, []
    for lead in ranked:
        if len(covers(lead) - covered[lead]) < LEFT * len(covers(lead)):
            continue
        members = [lead]
        for sensor in order:
            others = [o for o in ranked if o[1] == sensor != lead[1] and near(lead, o, within)]
            if others:
                nearest = min(others, key=lambda o: abs(o[3] - lead[3]))  # the earlier of two
                members += [o for o in others if abs(o[3] - nearest[3]) <= DAY]
        for member in members[1:]:
            covered[member] |= covers(lead)
        groups.append(tuple(m[0] for m in members))
    return groups


def pair_quickly(found, order, within):
    groups = pair([seen(look) for look in found], order, within)
    return [tuple(found[k][0] for k in group) for group in groups]


WITHIN = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, 9.0])


@given(looks(), WITHIN, st.permutations(RANKED), st.randoms(use_true_random=False))
@settings(max_examples=10 * settings.default.max_examples)
def test_pairs(found, within, order, dice):
    groups = pair_quickly(found, order, within)
    assert groups == pair_slowly(found, order, within)
    assert pair_quickly(dice.sample(found, len(found)), order, within) == groups
    assert {number for group in groups for number in group} == {look[0] for look in found}


@given(looks(RANKED[:2]), looks(RANKED[:2], 1), WITHIN)
@settings(max_examples=4 * settings.default.max_examples)
def test_a_look_that_comes_later_changes_only_what_it_touches(found, new, within):
    new = [("new", *new[0][1:])]
    before, after = pair_quickly(found, RANKED, within), pair_quickly(found + new, RANKED, within)
    touched = {look[0] for look in found + new if near(look, new[0], within)}
    sensors, changed = {look[0]: look[1] for look in found + new}, set(before) ^ set(after)
    led = [group for group in changed if sensors[group[0]] == RANKED[0]]
    assert all(group[0] in touched for group in led)
    displaced = {number for group in led for number in group}
    assert all(group[0] in touched | displaced for group in changed)
