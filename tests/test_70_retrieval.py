"""The index and the annotations."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from shapely.geometry import box

from geomm import Index, read_annotations
from geomm.annotations import derive_text
from geomm.errors import CatalogError, ConfigError, OutputError, PackageError
from geomm.retrieval import codes as coding
from geomm.retrieval import find as finding
from geomm.types import ClassSpec

START = pd.Timestamp("2020-01-01", tz="UTC")
SENSORS = ("sentinel2-l2a", "sentinel1-rtc", "sentinel2-l2a,sentinel1-rtc", "")


def places(count, first=0, seed=0):
    """Rows on a strip along the equator, a day and a tenth of a degree apart."""
    numbers = np.arange(first, first + count)
    columns = {
        "id": [f"chip-{k}" for k in numbers],
        "datetime": START + pd.to_timedelta(numbers, unit="D"),
        "sensors": [SENSORS[k % 4] for k in numbers],
        "text": [f"place {k}" for k in numbers],
    }
    shapes = [box(k / 10, 0, k / 10 + 0.05, 0.05) for k in numbers]
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:4326")


def naive(vectors, query, k, rows=None):
    """Rows and scores by plain NumPy, best first, ties by row."""
    half = vectors / np.linalg.norm(vectors.astype(float), axis=1, keepdims=True)
    half = half.astype(np.float32).astype(np.float16).astype(float)
    unit = (query / np.linalg.norm(query.astype(float))).astype(np.float32).astype(float)
    scores = (half @ unit).astype(np.float32)
    rows = np.arange(len(vectors)) if rows is None else np.asarray(rows)
    best = rows[np.lexsort((rows, -scores[rows]))][:k]
    return best, scores[best]


def same(index, vectors, query, k, rows=None, **options):
    """Compare a search with the naive one; scores may differ in the last bit, and rows of such scores in their order."""
    hits = index.search(query, k=k, **options)
    best, scores = naive(vectors, query, k, rows)
    np.testing.assert_allclose(hits["score"], scores, rtol=0, atol=1.2e-7)
    if not np.array_equal(hits.index, best):
        every = naive(vectors, query, len(vectors), rows)
        known = dict(zip(*every, strict=True))
        assert len(set(hits.index)) == len(best)
        np.testing.assert_allclose([known[n] for n in hits.index], scores, rtol=0, atol=1.2e-7)
    assert hits["score"].dtype == np.float32


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).normal(size=(400, 24)).astype(np.float32)


@pytest.fixture(scope="module")
def index(vectors, tmp_path_factory):
    index = Index.create(tmp_path_factory.mktemp("index") / "index", 24, about={"model_sha256": "ab"})
    index.append(vectors[:300], places(300))
    index.append(vectors[300:], places(100, 300))
    return index


def test_search_equals_brute_force(index, vectors):
    for seed, k in ((1, 1), (2, 7), (3, 400), (4, 1000)):
        query = np.random.default_rng(seed).normal(size=24) * 10.0**seed
        same(index, vectors, query, k)
    hits = index.search(vectors[17].astype(float), k=3)
    assert hits["id"].iloc[0] == "chip-17"
    assert hits["text"].iloc[0] == "place 17"
    assert hits["score"].iloc[0] == pytest.approx(1, abs=1e-3)
    assert hits.crs.to_epsg() == 4326
    assert hits.geometry.iloc[0].equals(places(1, 17).geometry.iloc[0])
    assert hits["datetime"].iloc[0] == START + pd.Timedelta(days=17)


def adversarial(kind, count, wide, generator):
    """Vectors on which rounding to eight bits is at its worst."""
    plain = generator.normal(size=(count, wide))
    if kind == "ties":
        plain = plain[generator.integers(0, max(1, count // 10), count)]
    elif kind == "near ties":
        plain = plain[:1] + 1e-3 * plain
    elif kind == "one-hot":
        plain = np.eye(wide)[generator.integers(0, wide, count)] * generator.choice([-1, 1], (count, 1))
    elif kind == "unequal":
        plain *= 10.0 ** generator.uniform(-6, 3, plain.shape)
    elif kind == "tiny and huge":
        plain *= 10.0 ** generator.uniform(-30, 30, (count, 1))
    elif kind == "far from the origin":
        plain += 100
    return plain.astype(np.float32)


KINDS = ("plain", "ties", "near ties", "one-hot", "unequal", "tiny and huge", "far from the origin")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "wide"), [(1, 1), (3, 5), (500, 7), (1500, 64), (900, 300)])
def test_exact_search_is_exact_on_adversarial_rows(kind, count, wide, tmp_path):
    generator = np.random.default_rng(count + wide)
    vectors = adversarial(kind, count, wide, generator)
    index = Index.create(tmp_path / "index", wide)
    index.append(vectors, places(count))
    for k in (1, 10, 2000):
        same(index, vectors, vectors[generator.integers(count)], k)
        same(index, vectors, adversarial(kind, 1, wide, generator)[0], k)
        flags = generator.random(count) < 0.3
        flags[0] = True
        area = shapely.union_all(places(count)[flags].geometry.to_numpy())
        same(index, vectors, vectors[-1], k, np.flatnonzero(flags), aoi=area)


@given(st.integers(0, 2**32), st.integers(1, 300), st.integers(1, 600), st.sampled_from(KINDS))
def test_bounds_hold(seed, count, wide, kind):
    """The interval that a scan gives for a block holds the best score of its rows."""
    from concurrent.futures import ThreadPoolExecutor
    from tempfile import TemporaryDirectory

    generator = np.random.default_rng(seed)
    rows = adversarial(kind, count, wide, generator).astype(float)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    queries = generator.normal(size=(3, wide)) * 10.0 ** generator.uniform(-3, 1, (3, wide))
    unit = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    lists = np.sort(generator.integers(0, 4, count)).astype(np.int32)
    centres = generator.normal(size=(4, wide)).astype(np.float32) / wide
    with TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        from pathlib import Path

        coding.write_codes(Path(name), [rows], None, centres, lists, pool)
        codes = coding.Codes.open(Path(name))
        chosen = np.flatnonzero(generator.random(count) < 0.5) if seed % 2 else None
        choice = coding.Choice.of(codes, chosen)
        blocks, coded = choice.blocks(), coding.Coded.of(unit)
        low, high = coding.bound(codes, choice, blocks, coded, coding.multiply(unit, codes.centres), pool)
        exact = rows.astype(float) @ unit.astype(float).T
        order = np.arange(count) if chosen is None else chosen
        assert (blocks[:, 1] - blocks[:, 0]).sum() == len(order)
        for b, (start, end, _) in enumerate(blocks):
            best = exact[order[start:end]].max(0)
            assert (low[:, b] <= best).all()
            assert (best <= high[:, b]).all()
        assert len(finding.singles(blocks)) == len(order)


def test_filters_equal_naive_ones(index, vectors):
    table = places(400)
    query = np.random.default_rng(5).normal(size=24)
    triangle = shapely.Polygon([(0, 0), (20, 0), (20, 1)])
    both = shapely.MultiPolygon([box(1, 0, 2, 1), box(30, 0, 31, 1)])
    made_of = [{s for s in row.split(",") if s} for row in table["sensors"]]
    cases = [
        ({"aoi": (1.0, 0.0, 2.0, 1.0)}, table.intersects(box(1, 0, 2, 1))),
        ({"aoi": (1.02, 0.01, 1.03, 0.02)}, table.intersects(box(1.02, 0.01, 1.03, 0.02))),
        ({"aoi": triangle}, table.intersects(triangle)),
        ({"aoi": shapely.geometry.mapping(triangle)}, table.intersects(triangle)),
        ({"aoi": both}, table.intersects(both)),
        ({"aoi": (39.0, -1.0, -170.0, 1.0)}, table.intersects(box(39, -1, 180, 1))),
        ({"datetime": "2020-01-10/2020-01-20"}, table["datetime"].between(START + pd.Timedelta(days=9), START + pd.Timedelta(days=19))),
        ({"datetime": "2020-01-10"}, table["datetime"] == START + pd.Timedelta(days=9)),
        ({"datetime": "2020-12-01/.."}, table["datetime"] >= pd.Timestamp("2020-12-01", tz="UTC")),
        ({"datetime": "../2020-01-05T00:00:00Z"}, table["datetime"] <= START + pd.Timedelta(days=4)),
        ({"sensors": ["sentinel1-rtc"]}, [s == {"sentinel1-rtc"} for s in made_of]),
        ({"sensors": ["sentinel1-rtc", "sentinel2-l2a", "other"]}, [bool(s) for s in made_of]),
        ({"aoi": triangle, "datetime": "2020-02-01/..", "sensors": ["sentinel2-l2a"]},
         table.intersects(triangle) & (table["datetime"] >= pd.Timestamp("2020-02-01", tz="UTC")) & np.array([s == {"sentinel2-l2a"} for s in made_of])),
    ]  # fmt: skip
    for options, wanted in cases:
        rows = np.flatnonzero(np.asarray(wanted))
        assert rows.size
        same(index, vectors, query, 10, rows, **options)
        same(index, vectors, query, 400, rows, **options)


def test_nothing_found_has_the_same_columns(index, tmp_path):
    full, none = index.search(np.ones(24)), index.search(np.ones(24), aoi=(-9.0, -9.0, -8.0, -8.0))
    assert len(none) == 0
    assert list(none.columns) == list(full.columns)
    assert none.crs == full.crs
    empty = Index.create(tmp_path / "empty", 3)
    assert len(empty) == 0
    assert list(empty.search(np.ones(3)).columns) == ["id", "geometry", "score"]
    rows, scores = index.search_many(np.ones((2, 24)), k=3, aoi=(-9.0, -9.0, -8.0, -8.0))
    assert (rows == -1).all()
    assert np.isnan(scores).all()


def test_many_queries_are_searched_as_one_each(index, vectors):
    queries = np.random.default_rng(6).normal(size=(70, 24))
    rows, scores = index.search_many(queries, k=5)
    for query, found, score in zip(queries, rows, scores, strict=True):
        hits = index.search(query, k=5)
        np.testing.assert_array_equal(hits.index, found)
        np.testing.assert_array_equal(hits["score"], score)


def test_rows_without_time_or_of_other_crs(tmp_path):
    table = places(4).drop(columns="sensors").to_crs("EPSG:3857")
    table.loc[1, "datetime"] = pd.NaT
    index = Index.create(tmp_path / "index", 2)
    index.append(np.eye(4, 2) + 1, table)
    assert index.search(np.ones(2), datetime="../..")["id"].tolist() == ["chip-2", "chip-3", "chip-0"]
    assert index.search(np.ones(2), datetime="1900-01-01/2100-01-01")["id"].tolist() == ["chip-2", "chip-3", "chip-0"]
    assert len(index.search(np.ones(2))) == 4
    assert len(index.search(np.ones(2), sensors=["sentinel2-l2a"])) == 0
    np.testing.assert_allclose(index.rows([2]).total_bounds, places(1, 2).total_bounds, atol=1e-9)
    naive_times = places(1, 9).assign(datetime=pd.Timestamp("2021-06-01T12:00"))
    index.append(np.ones((1, 2)), naive_times.assign(extra=7))
    assert index.search(np.ones(2), datetime="2021-06-01")["extra"].tolist() == [7]


def test_queries_go_through_the_embedder(index, vectors):
    class Embedder:
        def text(self, texts):
            return np.stack([vectors[len(t)] for t in texts])

        def image(self, sample):
            return vectors[sample["number"]]

    other = Index.open(index.folder)
    with pytest.raises(ConfigError, match="no embedder"):
        other.search("a lake")
    other.embedder = Embedder()
    assert other.search("a lake", k=1).index.tolist() == [6]
    assert other.search({"number": 33}, k=1).index.tolist() == [33]
    assert index.embedder is None


def test_rows_pictures_and_cells_by_number(tmp_path):
    generator = np.random.default_rng(1)
    vectors, cells = generator.normal(size=(30, 6)), generator.normal(size=(30, 3, 3, 6))
    cells[4] = 0
    pictures = [bytes(generator.integers(0, 256, k % 7, dtype=np.uint8)) for k in range(30)]
    index = Index.create(tmp_path / "index", 6)
    for part in (slice(0, 12), slice(12, 30)):
        index.append(vectors[part], places(30)[part], pictures=pictures[part], cells=cells[part])
    numbers = generator.permutation(30)[:20]
    assert index.rows(numbers)["id"].tolist() == [f"chip-{k}" for k in numbers]
    assert index.pictures(numbers) == [pictures[k] for k in numbers]
    step = np.abs(cells[numbers]).max(-1, keepdims=True) / 127
    assert (np.abs(index.cells(numbers) - cells[numbers]) <= step / 2 + 1e-6).all()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(index.vectors(numbers), unit[numbers], atol=1e-3)
    index.compact()
    assert index.pictures(numbers) == [pictures[k] for k in numbers]
    assert index.cells([4]).max() == 0
    with pytest.raises(ConfigError, match="no such row"):
        index.rows([30])
    with pytest.raises(ConfigError, match="or none has"):
        index.append(vectors[:1], places(1, 40))


def test_other_tools_read_the_rows(index):
    """Rows are GeoParquet, vectors are NumPy files."""
    segments = index.snapshot.manifest.segments
    tables = [geopandas.read_parquet(index.folder / s.name / "rows.parquet") for s in segments]
    assert pd.concat(tables)["id"].tolist() == [f"chip-{k}" for k in range(400)]
    assert tables[0].crs.to_epsg() == 4326
    arrays = [np.load(index.folder / s.name / "vectors.npy") for s in segments]
    assert np.concatenate(arrays).dtype == np.float16
    np.testing.assert_array_equal(np.concatenate(arrays), index.vectors(np.arange(400)))


def test_index_refuses_nonsense(index, tmp_path):
    with pytest.raises(ConfigError, match="k 0"):
        index.search(np.ones(24), k=0)
    with pytest.raises(ConfigError, match="does not fit the index"):
        index.search(np.ones(9))
    with pytest.raises(ConfigError, match="length zero"):
        index.search(np.zeros(24))
    with pytest.raises(ConfigError, match="not finite"):
        index.search(np.full(24, np.nan))
    with pytest.raises(ConfigError, match="no method"):
        index.search(np.ones(24), method="fast")
    with pytest.raises(ConfigError, match="no box"):
        index.search(np.ones(24), aoi=(0, 0, 400, 1))
    with pytest.raises(ConfigError, match="no box"):
        index.search(np.ones(24), aoi="here")
    with pytest.raises(ConfigError, match="no geometry"):
        index.search(np.ones(24), aoi={"type": "Polygon"})
    with pytest.raises(ConfigError, match="not valid"):
        index.search(np.ones(24), aoi=shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]))
    with pytest.raises(ConfigError, match="cannot be understood"):
        index.search(np.ones(24), datetime="June")
    with pytest.raises(ConfigError, match="one text"):
        index.search(np.ones(24), sensors="sentinel2-l2a")
    before = index.snapshot.manifest
    for message, vectors, table in (
        ("length zero", np.zeros((1, 24)), places(1, 500)),
        ("not finite", np.full((1, 24), np.inf), places(1, 500)),
        ("one vector per row", np.ones((2, 24)), places(1, 500)),
        ("one vector per row", np.ones((1, 23)), places(1, 500)),
        ("rows of these ids.*chip-7", np.ones((1, 24)), places(1, 7)),
        ("twice in a batch", np.ones((2, 24)), pd.concat([places(1, 500)] * 2)),
        ("need an id", np.ones((1, 24)), places(1, 500).drop(columns="id")),
        ("need an id", np.ones((1, 24)), places(1, 500).set_crs(None, allow_override=True)),
        ("no place", np.ones((1, 24)), places(1, 500).set_geometry([shapely.Point()])),
        ("ids are texts", np.ones((1, 24)), places(1, 500).assign(id=7)),
        ("cannot be stored", np.ones((2, 24)), places(2, 500).assign(odd=[{1}, "text"])),
    ):
        with pytest.raises(ConfigError, match=message):
            index.append(vectors, table)
    for options in ({"pictures": []}, {"pictures": ["text"]}, {"cells": np.ones((1, 2, 3, 24))}, {"jobs": {"a": {1}}}):
        with pytest.raises(ConfigError):
            index.append(np.ones((1, 24)), places(1, 500), **options)
    assert Index.open(index.folder).snapshot.manifest == before
    with pytest.raises(OutputError, match="something else"):
        Index.create(index.folder, 24)
    with pytest.raises(PackageError, match="not an index"):
        Index.open(tmp_path)
    with pytest.raises(ConfigError, match="at least one"):
        Index.create(tmp_path / "x", 0)


def test_annotations_from_every_format(tmp_path):
    table = geopandas.GeoDataFrame(
        {"text": ["a lake", "a town"]}, geometry=[box(0, 0, 1, 1), box(0.9, 0, 3, 1)], crs="EPSG:4326"
    )
    table.to_file(tmp_path / "a.geojson")
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("lon,lat,text\n0.5,0.5,a lake\n2.0,0.5,a town\n")
    for name in ("a.geojson", "a.parquet", "a.csv"):
        annotations = read_annotations(tmp_path / name)
        assert len(annotations) == 2
        assert annotations.at((1.5, 0.2, 2.5, 0.8)) == ("a town",)
        assert not annotations.table["derived"].any()
    assert read_annotations(tmp_path / "a.parquet").at((0.5, 0, 1, 1)) == ("a lake", "a town")
    with pytest.raises(CatalogError, match="cannot be read"):
        read_annotations(tmp_path / "a.csv", text="caption")
    with pytest.raises(CatalogError, match="cannot be read"):
        read_annotations(tmp_path / "missing.geojson")
    geopandas.GeoDataFrame({"text": ["x"]}, geometry=[box(0, 0, 1, 1)]).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(CatalogError, match="no CRS"):
        read_annotations(tmp_path / "b.parquet")


@pytest.mark.shared
def test_real_questions_are_readable(shared):
    questions = json.loads((shared / "text_rsvqa" / "LR" / "LR_split_test_questions.json").read_text())["questions"]
    assert sum(1 for q in questions if q.get("question")) > 100


def test_derived_text_follows_the_fractions():
    classes = [ClassSpec(1, "water", "#0000ff"), ClassSpec(2, "trees", "#00ff00"), ClassSpec(3, "sand", "#ffff00")]
    assert derive_text([0.02, 0.98, 0.0], classes) == "only trees"
    assert derive_text([0.3, 0.6, 0.1], classes) == "mostly trees, some water, some sand"
    assert derive_text([0.0, 0.0, 0.0], classes) == "nothing labelled"
