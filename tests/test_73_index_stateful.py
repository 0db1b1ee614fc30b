"""The index against arrays of numpy: appended, deleted, compacted, listed, opened again, searched with any filter."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from geomm.errors import ConfigError
from geomm.retrieval import Index, find, learn, verify_index, writing

pytestmark = [  # areas and sensors are drawn at random
    pytest.mark.filterwarnings("ignore:No row lies in the area"),
    pytest.mark.filterwarnings("ignore:No row of the index is of"),
]

SOAK = settings.default.max_examples > 50
WIDE = 8
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
NAMES = ("one", "two", "three")


@st.composite
def vectors(draw):
    """Short whole numbers, so that many scores are equal, or any direction and length."""
    if draw(st.booleans()):
        return draw(st.lists(st.integers(-2, 2), min_size=WIDE, max_size=WIDE).filter(any).map(tuple))
    dice = np.random.default_rng(draw(st.integers(0, 2**16)))
    return tuple((dice.normal(size=WIDE) * 10.0 ** draw(st.integers(-6, 6))).tolist())


@st.composite
def places(draw):
    """Points, lines, boxes, triangles, and boxes in two parts across the antimeridian; whole degrees."""
    kind, x, y = draw(st.sampled_from(["point", "box", "line", "triangle", "across"])), *draw(CORNERS)
    width, height = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    if kind == "point":
        return shapely.Point(x, y)
    if kind == "line":
        return shapely.LineString([(x, y), (x + width, y + height)])
    if kind == "triangle":
        return shapely.Polygon([(x, y), (x + width, y), (x, y + height)])
    if kind == "box":
        return shapely.box(x, y, x + width, y + height)
    return shapely.MultiPolygon([
        shapely.box(180 - width, y, 180, y + height), shapely.box(-180, y, height - 180, y + height)
    ])  # fmt: skip


CORNERS = st.one_of(
    st.tuples(st.integers(-6, 6), st.integers(-6, 6)),
    st.tuples(st.sampled_from([-180, -178, 172, 176]), st.integers(-6, 6)),
)
TIMES = st.one_of(st.none(), st.integers(0, 20).map(lambda k: START + dt.timedelta(hours=12 * k)))
SETS = st.sampled_from(["", "one", "two", "one,two", "two, three", " one ,one", "three"])
ROWS = st.tuples(vectors(), places(), TIMES, SETS)


@st.composite
def areas(draw):
    """An area as it is given, and its parts as shapes."""
    kind = draw(st.sampled_from(["box", "across", "shape", "json", "object"]))
    x, y = draw(CORNERS)
    width, height = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    if kind == "box":
        return (x, y, min(x + width, 180), y + height), [shapely.box(x, y, min(x + width, 180), y + height)]
    if kind == "across":
        parts = [shapely.box(170 + width, y, 180, y + height), shapely.box(-180, y, height - 179, y + height)]
        return (170.0 + width, y, height - 179, y + height), parts
    shape = draw(places())
    told = json.loads(shapely.to_geojson(shape))
    return {"shape": shape, "json": told, "object": SimpleNamespace(__geo_interface__=told)}[kind], [shape]


def table(ids, rows, extra):
    columns = {"id": ids, "number": [extra + k for k in range(len(ids))], "sensors": [row[3] for row in rows]}
    times = [row[2] for row in rows]
    if any(times):
        columns["datetime"] = pd.to_datetime(pd.Series(times, dtype=object), utc=True)
    return geopandas.GeoDataFrame(columns, geometry=[row[1] for row in rows], crs="EPSG:4326")


def scores_of(query, rows):
    """Return cosines of a query and rows as they are kept: in half precision."""
    kept = np.array([row[0] for row in rows], float).reshape(-1, WIDE)
    kept /= np.abs(kept).max(1, keepdims=True)
    kept = (kept / np.linalg.norm(kept, axis=1, keepdims=True)).astype(np.float32).astype(np.float16).astype(float)
    query = np.array(query, float) / np.abs(query).max()
    return kept @ (query / np.linalg.norm(query)).astype(np.float32)


class IndexMachine(RuleBasedStateMachine):
    """An index finds what a loop over a dictionary of rows finds."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.patches = [
            mock.patch.object(writing, "FAN", 3),
            mock.patch.object(writing, "LARGEST", 40),
            mock.patch.object(learn, "SIZE", 4),
        ]
        for patch in self.patches:
            patch.start()
        self.index, self.known, self.fresh, self.gone = None, {}, 0, []

    @initialize()
    def make(self):
        self.index = Index.create(self.folder / "index", WIDE, about={"model_sha256": "ab"})

    def teardown(self):
        for patch in self.patches:
            patch.stop()
        if self.index is not None:
            assert verify_index(self.index.folder) == []
            assert self.index.snapshot.manifest.strangers(self.index.folder) == []
        shutil.rmtree(self.folder)

    @rule(rows=st.lists(ROWS, max_size=12), again=st.booleans())
    def append(self, rows, again):
        """Add rows, under new ids or those of rows that were deleted."""
        ids = [f"row-{self.fresh + k}" for k in range(len(rows))]
        if again:
            ids[: len(self.gone)] = self.gone[: len(ids)]
            self.gone = self.gone[len(ids) :]
        self.index.append(np.array([r[0] for r in rows]).reshape(-1, WIDE), table(ids, rows, self.fresh))
        self.known |= dict(zip(ids, rows, strict=True))
        self.fresh += len(rows)

    @precondition(lambda self: self.known)
    @rule(data=st.data(), row=ROWS)
    def append_what_is_there(self, data, row):
        ids = ["new", data.draw(st.sampled_from(list(self.known)))]
        with pytest.raises(ConfigError, match="has rows of these ids"):
            self.index.append(np.array([row[0]] * 2), table(ids, [row, row], 0))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), how=st.sampled_from(["ids", "numbers", "flags"]))
    def delete(self, data, how):
        ids = data.draw(st.lists(st.sampled_from(list(self.known)), min_size=1, max_size=8, unique=True))
        order = list(self.known)
        numbers = self.index.numbers[[order.index(i) for i in ids]]
        flags = np.zeros(self.index.snapshot.manifest.rows, bool)
        flags[numbers] = True
        assert self.index.delete({"ids": ids, "numbers": numbers, "flags": flags}[how]) == len(ids)
        assert self.index.delete(numbers) == 0
        for number in ids:
            del self.known[number]
        self.gone += ids

    @rule()
    def delete_what_is_not_there(self):
        with pytest.raises(ConfigError, match="no rows of these ids"):
            self.index.delete(["unknown", *list(self.known)[:1]])

    @rule()
    def compact(self):
        self.index.compact()
        np.testing.assert_array_equal(self.index.numbers, np.arange(len(self.known)))

    @precondition(lambda self: self.known)
    @rule()
    def build_lists(self):
        self.index.build_ann()
        assert self.index.listed == self.index.snapshot.manifest.rows

    @rule()
    def open_again(self):
        self.index = Index.open(self.index.folder)

    @rule(rows=st.lists(ROWS, min_size=1, max_size=3))
    def let_others_write(self, rows):
        """Another writer adds rows: they are seen after a look, not before."""
        other, before = Index.open(self.index.folder), len(self.index)
        ids = [f"row-{self.fresh + k}" for k in range(len(rows))]
        other.append(np.array([r[0] for r in rows]), table(ids, rows, self.fresh))
        assert len(self.index) == before == len(self.known)
        assert set(self.index.rows(self.index.numbers)["id"]) == set(self.known)
        self.index.reload()
        self.known |= dict(zip(ids, rows, strict=True))
        self.fresh += len(rows)

    @rule(
        queries=st.lists(vectors(), min_size=1, max_size=3),
        k=st.integers(1, 30),
        area=st.one_of(st.none(), areas()),
        days=st.one_of(st.none(), st.tuples(*[st.one_of(st.none(), st.integers(0, 9))] * 2)),
        sensors=st.lists(st.sampled_from(NAMES), unique=True),
        method=st.sampled_from(["auto", "exact"]),
    )
    def search(self, queries, k, area, days, sensors, method):
        first, last = (None if d is None else START + dt.timedelta(days=d) for d in days or (None, None))
        if first and last and first > last:
            first, last = last, first
        when = "/".join(".." if d is None else d.isoformat() for d in (first, last)) if days else None
        aoi, parts = area or (None, [])
        mine = [
            (number, row)
            for number, row in self.known.items()
            if (area is None or any(row[1].intersects(part) for part in parts))
            and (
                days is None or (row[2] is not None and (not first or row[2] >= first) and (not last or row[2] <= last))
            )
            and (not sensors or set(filter(None, map(str.strip, row[3].split(",")))) in _within(sensors))
        ]
        asked = {"k": k, "aoi": aoi, "datetime": when, "sensors": sensors}
        for query in queries:
            self.compare(self.index.search(list(query), method=method, **asked), query, mine, k)
        found, scores = self.index.search_many(np.array(queries, float), method=method, **asked)
        for n, query in enumerate(queries):
            one = self.index.search(list(query), method=method, **asked)
            assert found[n].tolist() == one.index.tolist() + [-1] * (k - len(one))
            np.testing.assert_array_equal(scores[n][: len(one)], one["score"])
            assert np.isnan(scores[n][len(one) :]).all()
        if self.index.listed:
            likely = self.index.search(list(queries[0]), method="ann", **asked)
            self.compare(likely, queries[0], [m for m in mine if m[0] in set(likely["id"])], k)

    def compare(self, hits, query, mine, k):
        """Hits are the best of those that match; where scores are equal, those that come first."""
        wanted = scores_of(query, [row for _, row in mine])
        best = np.sort(wanted)[::-1][:k]
        np.testing.assert_allclose(hits["score"], best, atol=1e-5)
        scores = dict(zip((number for number, _ in mine), wanted, strict=True))
        assert len(set(hits["id"])) == len(hits)
        np.testing.assert_allclose([scores[number] for number in hits["id"]], best, atol=1e-5)
        assert set(hits["id"]) >= {n for n, s in scores.items() if len(best) and s > best[-1] + 1e-5}
        ranks = list(zip(-hits["score"].to_numpy(), hits.index, strict=True))
        assert ranks == sorted(ranks)

    @invariant()
    def the_same_is_there(self):
        if self.index is None:
            return
        assert len(self.index) == len(self.known)
        numbers = self.index.numbers
        rows = self.index.rows(numbers)
        assert rows["id"].tolist() == list(self.known)
        assert all(a.equals(b[1]) for a, b in zip(rows.geometry, self.known.values(), strict=True))
        if self.known:
            assert rows["sensors"].tolist() == [row[3] for row in self.known.values()]
            times = [row[2] for row in self.known.values()]
            there = rows["datetime"] if "datetime" in rows else pd.Series([pd.NaT] * len(rows))
            assert [None if pd.isna(t) else t.to_pydatetime() for t in there] == times
        for axis in range(2):
            unit = np.eye(WIDE)[axis]
            kept = self.index.vectors(numbers).astype(float) @ unit
            np.testing.assert_allclose(kept, scores_of(unit, list(self.known.values())), atol=1e-6)


def _within(sensors):
    """Return all sets of names that hold nothing but these, and something."""
    found = [set()]
    for name in sensors:
        found += [s | {name} for s in found]
    return found[1:]


TestIndex = IndexMachine.TestCase
TestIndex.settings = settings(max_examples=200 if SOAK else 8, stateful_step_count=50 if SOAK else 20)


# one by one -----------------------------------------------------------------------------------------------------------


def test_where_no_listed_row_matches_none_is_found(tmp_path):
    """No row that is in a list is left, or none matches: that is not all of them."""
    index = Index.create(tmp_path / "index", WIDE)
    rows = [(tuple(np.eye(WIDE)[k]), shapely.Point(k, 0), START, "one") for k in range(4)]
    index.append(np.array([r[0] for r in rows]), table([f"row-{k}" for k in range(4)], rows, 0))
    index.build_ann()
    late = [(tuple(-np.eye(WIDE)[0]), shapely.Point(50, 0), START, "two")]
    index.append(np.array([r[0] for r in late]), table(["late"], late, 4))
    query = np.eye(WIDE)[0]
    for asked in ({"sensors": ["two"]}, {"aoi": (40.0, -1.0, 60.0, 1.0)}):
        assert index.search(query, method="ann", **asked)["id"].tolist() == ["late"]
    assert index.search(query, method="ann", sensors=["three"])["id"].tolist() == []
    assert index.search(query, method="ann", datetime="2025-01-01/..")["id"].tolist() == []
    index.delete([f"row-{k}" for k in range(4)])
    assert index.search(query, method="ann")["id"].tolist() == ["late"]
    index.delete(["late"])
    assert index.search(query, method="ann")["id"].tolist() == []
    with mock.patch.object(find, "ENOUGH", -1):
        assert index.search(query)["id"].tolist() == []


@pytest.mark.parametrize(
    ("aoi", "wanted"),
    [
        ((8.0, 46.0, 8.0, 46.0), ["west"]),
        ((8.0, 46.0, 12.0, 46.0), ["west"]),
        ((178.0, 1.0, -179.0, 1.0), ["across", "east"]),
        ((180.0, 1.0, -180.0, 1.0), ["across", "east"]),
        ((180.0, -5.0, -170.0, 5.0), ["across", "east"]),
        ((179.5, 5.0, -179.5, 6.0), []),
    ],
)
def test_areas_without_a_width_are_places_too(tmp_path, aoi, wanted):
    across = shapely.MultiPolygon([shapely.box(178, 0, 180, 2), shapely.box(-180, 0, -179, 2)])
    shapes = [shapely.box(7, 45, 9, 47), across, shapely.Polygon([(178, 0), (180, 1), (178, 2)])]
    rows = [((1.0, *[0.0] * (WIDE - 1)), shape, START, "") for shape in shapes]
    index = Index.create(tmp_path / "index", WIDE)
    index.append(np.array([r[0] for r in rows]), table(["west", "across", "east"], rows, 0))
    assert index.search(rows[0][0], aoi=aoi)["id"].tolist() == wanted
