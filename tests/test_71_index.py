"""The index on disk: whole batches whatever happens, no damage unseen, and always what a naive model says."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import dask
import geopandas
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import box

from geomm.errors import ConfigError, OutputError, PackageError
from geomm.retrieval import Index, learn, merge_indexes, search_partitions, verify_index, writing
from geomm.retrieval.files import seal, unseal
from geomm.retrieval.manifest import Manifest

pytestmark = pytest.mark.filterwarnings("ignore:No row lies in the area")  # areas are drawn at random

KILLS = int(os.environ.get("GEOMM_KILLS", "3"))
WIDE = 12


def table(ids):
    shapes = [box(k % 300 * 0.1, k % 7, k % 300 * 0.1 + 0.05, k % 7 + 0.5) for k in ids]
    columns = {"id": [f"chip-{k}" for k in ids], "number": list(ids)}
    return geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:4326")


def vector_of(ids):
    """The vector of an id: of the same id always the same."""
    return np.stack([np.random.default_rng(k).normal(size=WIDE) for k in ids]).astype(np.float32)


def batch(ids, **options):
    ids = list(ids)
    pictures = [f"picture {k}".encode() for k in ids]
    return {
        "vectors": vector_of(ids),
        "table": table(ids),
        "pictures": pictures,
        "cells": np.repeat(vector_of(ids)[:, None, None], 2, axis=1).repeat(2, axis=2),
        **options,
    }


def check(index, ids):
    """The index holds these ids, in this order, with all that belongs to them."""
    ids = list(ids)
    assert len(index) == len(ids)
    numbers = index.numbers
    rows = index.rows(numbers)
    assert rows["id"].tolist() == [f"chip-{k}" for k in ids]
    if not ids:
        return
    assert rows["number"].tolist() == ids
    assert index.pictures(numbers) == [f"picture {k}".encode() for k in ids]
    unit = vector_of(ids) / np.linalg.norm(vector_of(ids), axis=1, keepdims=True)
    np.testing.assert_allclose(index.vectors(numbers), unit, atol=1e-3)
    np.testing.assert_allclose(index.cells(numbers)[:, 1, 1], vector_of(ids), atol=0.03)
    for query in np.random.default_rng(len(ids)).normal(size=(2, WIDE)):
        scores = index.vectors(numbers).astype(float) @ (query / np.linalg.norm(query))
        hits = index.search(query, k=5)
        np.testing.assert_allclose(hits["score"], np.sort(scores)[::-1][:5], atol=1e-6)
        assert hits["number"].tolist() == [ids[k] for k in np.argsort(-scores, kind="stable")[:5]]
        area = (3.0, 1.0, 9.0, 3.0)
        inside = rows.intersects(box(*area)).to_numpy()
        found = index.search(query, k=4, aoi=area)["number"].tolist()
        assert found == [
            ids[k] for k in np.argsort(-np.where(inside, scores, -9), kind="stable")[: min(4, inside.sum())]
        ]


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def small(folder, rows=60):
    index = Index.create(folder, WIDE, about={"model_sha256": "ab", "umlaut": "\u00e9"})
    index.append(**batch(range(rows // 2), jobs={"first": 1}))
    index.append(**batch(range(rows // 2, rows), jobs={"second": {"rows": rows}}))
    index.build_ann()
    index.delete([3, 40] if rows > 40 else [0])
    return index


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_it_equals_a_naive_model(seed, tmp_path, monkeypatch):
    """Appended, deleted, merged, compacted, listed and opened again in random order."""
    monkeypatch.setattr(writing, "FAN", 3)
    monkeypatch.setattr(writing, "LARGEST", 200)
    monkeypatch.setattr(learn, "SIZE", 8)
    generator, index = random.Random(seed), Index.create(tmp_path / "index", WIDE)
    ids, fresh, jobs = [], 0, {}
    for step in range(30):
        kind = generator.choice(["append"] * 4 + ["delete", "delete", "compact", "lists", "open", "again"])
        if kind == "append":
            new = range(fresh, fresh + generator.choice([0, 1, 2, 17, 60]))
            fresh = new.stop
            jobs[f"job {step}"] = [step, len(new)]
            index.append(**batch(new, jobs={f"job {step}": [step, len(new)]})) if new else index.append(
                np.empty((0, WIDE)), table(new), jobs=jobs
            )
            ids += new
        elif kind == "delete" and ids:
            gone = generator.sample(ids, generator.randrange(1, 1 + min(20, len(ids))))
            rows = index.rows(index.numbers)
            numbers = rows.index[rows["number"].isin(gone)].to_numpy()
            flags = np.zeros(index.snapshot.manifest.rows, bool)
            flags[numbers] = True
            which = generator.choice([numbers, flags, [f"chip-{k}" for k in gone]])
            assert index.delete(which) == len(gone)
            assert index.delete(numbers) == 0
            ids = [k for k in ids if k not in set(gone)]
        elif kind == "again" and fresh > len(ids):
            gone = [k for k in range(fresh) if k not in set(ids)][:5]
            index.append(**batch(gone))
            ids += gone
        elif kind == "compact":
            index.compact()
            assert len(index.snapshot.deleted) == 0
        elif kind == "lists" and ids:
            index.build_ann()
            assert index.listed == index.snapshot.manifest.rows
        elif kind == "open":
            index = Index.open(index.folder)
        check(index, ids)
        assert index.jobs == jobs
        assert len(index.snapshot.segments) < 20
    assert verify_index(index.folder) == []
    assert index.snapshot.manifest.strangers(index.folder) == []


def test_segments_stay_few_and_numbers_stay(tmp_path):
    index = Index.create(tmp_path / "index", WIDE)
    for k in range(70):
        index.append(**batch(range(k * 2, k * 2 + 2)))
        assert index.rows([0, k])["number"].tolist() == [0, k]
    assert len(index.snapshot.segments) <= 3 * writing.FAN
    check(index, range(140))
    index.delete(["chip-5"])
    before = index.rows([7, 100])
    pd.testing.assert_frame_equal(before, Index.open(index.folder).rows([7, 100]))
    index.compact()
    assert index.rows([6, 99])["number"].tolist() == [7, 100]


def test_damage_is_found_by_name(tmp_path):
    index = small(tmp_path / "index")
    assert verify_index(index.folder) == []
    generator = random.Random(0)
    for name, data in content(index.folder).items():
        path = index.folder / name
        for _ in range(8 if data else 0):
            broken = bytearray(data)
            broken[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
            path.write_bytes(broken)
            assert any(name in line for line in verify_index(index.folder)), name
        for kept in {0, len(data) // 2, len(data) - 1} if data else ():
            path.write_bytes(data[:kept])
            assert any(name in line for line in verify_index(index.folder)), name
            with pytest.raises(PackageError, match="damaged"):
                Index.open(index.folder)
        path.unlink()
        if name == "index.json":
            with pytest.raises(PackageError, match="not an index"):
                verify_index(index.folder)
        elif data:
            assert any(name in line and "missing" in line for line in verify_index(index.folder))
        path.write_bytes(data)
    assert verify_index(index.folder) == []


def test_every_bit_of_the_manifest_counts(tmp_path):
    index = small(tmp_path / "index", 4)
    path = index.folder / "index.json"
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 3):
        broken = bytearray(data)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError):
            unseal(bytes(broken))
    path.write_bytes(seal({**unseal(data), "version": 99}))
    with pytest.raises(PackageError):
        Index.open(index.folder)
    about = {k: v for k, v in unseal(data).items() if k != "sha256"}
    path.write_bytes(seal({**about, "version": 99}))
    with pytest.raises(PackageError, match="another format"):
        Index.open(index.folder)
    path.write_bytes(seal({**about, "segments": [{"name": "x"}]}))
    with pytest.raises(PackageError, match="damaged"):
        Index.open(index.folder)
    path.write_text(json.dumps({"model_sha256": "", "sha256": {}}))
    with pytest.raises(PackageError, match="damaged"):
        Index.open(index.folder)


WRITE = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import test_71_index as t
from geomm.retrieval import Index, learn, writing
writing.FAN, learn.SIZE = 3, 16
folder = Path(sys.argv[1])
t.small(folder.with_name(sys.argv[3]))  # what has to be imported and compiled
print("ready", flush=True)
if not folder.exists():
    t.Index.create(folder, t.WIDE)
index = Index.open(folder)
k = len(index.jobs)
while True:
    index.append(**t.batch(range(k * 10, k * 10 + 10), jobs={str(k): k * 10}))
    if k % 5 == 4:
        index.delete([f"chip-{k * 10 - 3}"])
    if k % 7 == 6:
        index.build_ann()
    if k % 11 == 10:
        index.compact()
    k += 1
"""


def test_killed_at_any_time_it_opens_with_whole_batches_and_goes_on(tmp_path):
    folder, generator, seen = tmp_path / "index", random.Random(2), []
    command = [sys.executable, "-c", WRITE, str(folder), os.path.dirname(__file__)]
    for number in range(KILLS):
        process = subprocess.Popen([*command, f"warm{number}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ready = process.stdout.readline()
        time.sleep(generator.uniform(0.0, 0.8))
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert ready == b"ready\n", errors.decode()
        if not folder.exists():
            continue
        index = Index.open(folder)
        assert verify_index(folder) == []
        seen.append(len(index.jobs))
        assert index.jobs == {str(k): k * 10 for k in range(len(index.jobs))}
        gone = [k * 10 - 3 for k in range(4, len(index.jobs), 5)]
        there = {int(name.partition("-")[2]) for name in index.rows(index.numbers)["id"]}
        every = set(range(len(index.jobs) * 10))
        assert there <= every
        assert every - set(gone) <= there  # only the last deletion may be missing
        assert len(there & set(gone)) <= KILLS
        check(index, sorted(there))
    assert seen == sorted(seen)
    assert seen[-1] > 0  # it went on
    index = Index.open(folder)
    index.append(**batch(range(10**6, 10**6 + 3)))
    assert index.snapshot.manifest.strangers(folder) == []


def test_killed_before_the_manifest_nothing_is_seen_and_the_rest_is_swept(tmp_path, monkeypatch):
    index = small(tmp_path / "index")
    before = content(index.folder)

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    for action in (
        lambda: index.append(**batch(range(100, 110))),
        lambda: index.delete([1]),
        index.compact,
        index.build_ann,
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Manifest, "save", die)
            patch.setattr(Manifest, "sweep", lambda *_: None)
            with pytest.raises(Killed):
                action()
        assert len(content(index.folder)) > len(before)
        check(Index.open(index.folder), [k for k in range(60) if k not in (3, 40)])
        assert verify_index(index.folder) == []
    with index.writing():
        assert content(index.folder) == before


def test_errors_leave_nothing_half_written(tmp_path, monkeypatch):
    index = small(tmp_path / "index")
    before = content(index.folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for action in (lambda: index.append(**batch(range(100, 110))), lambda: index.delete([1]), index.compact):
            with pytest.raises(OutputError, match="No space"):
                action()
        with pytest.raises(OutputError, match="No space"):
            merge_indexes([index.folder], tmp_path / "merged")
        with pytest.raises(OutputError, match="No space"):
            Index.create(tmp_path / "other", WIDE)
    assert content(index.folder) == before
    assert [p.name for p in tmp_path.iterdir()] == ["index"]
    index.append(**batch(range(100, 110)))
    assert len(index) == 68


def test_one_writer_at_a_time(tmp_path):
    index, other = small(tmp_path / "index"), Index.open(tmp_path / "index")
    with index.writing():
        index.append(**batch(range(100, 110)))
        with pytest.raises(OutputError, match="another writer"):
            other.append(**batch(range(200, 210)))
        index.append(**batch(range(110, 120)))
    assert len(other) == 58
    other.append(**batch(range(200, 210)))  # sees what the first one wrote
    assert len(other) == 88
    with pytest.raises(ConfigError, match="chip-200"):
        index.append(**batch(range(200, 201)))
    failed = []

    def write():
        try:
            index.append(**batch(range(300, 301)))
        except OutputError as error:
            failed.append(error)

    with index.writing():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(failed) == 1


def test_readers_keep_what_they_opened(tmp_path):
    index = small(tmp_path / "index")
    reader = Index.open(index.folder)
    index.delete([1, 2])
    index.compact()
    index.append(**batch(range(100, 300)))
    check(reader, [k for k in range(60) if k not in (3, 40)])
    reader.reload()
    check(reader, [k for k in range(60) if k not in (1, 2, 3, 40)] + [*range(100, 300)])


def test_readers_that_open_while_writers_replace(tmp_path, monkeypatch):
    index = small(tmp_path / "index")
    load, once = Manifest.load, []

    def overtaken(folder):
        found = load(folder)
        if not once:
            once.append(found)
            index.compact()
        return found

    monkeypatch.setattr(Manifest, "load", staticmethod(overtaken))
    assert len(Index.open(index.folder)) == 58


def test_approximate_search_finds_nearly_all_and_what_was_appended_since(tmp_path):
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(60, 32))
    vectors = (centres[generator.integers(0, 60, 6000)] + 0.7 * generator.normal(size=(6000, 32))).astype(np.float32)
    index = Index.create(tmp_path / "index", 32)
    index.append(vectors[:5000], table(range(5000)))
    index.build_ann()
    index.append(vectors[5000:], table(range(5000, 6000)))
    index.delete(np.arange(0, 6000, 50))
    queries = vectors[generator.choice(6000, 40)] + 0.2 * generator.normal(size=(40, 32))
    for options in ({}, {"aoi": (3.0, 1.0, 6.0, 3.0)}, {"aoi": (3.0, 0.0, 3.3, 6.0)}):
        exact, scores = index.search_many(queries, method="exact", **options)
        likely, likely_scores = index.search_many(queries, method="ann", **options)
        found = [len(set(a) & set(b)) / 10 for a, b in zip(exact, likely, strict=True)]
        assert np.mean(found) > 0.98
        assert not (set(likely.ravel()) & set(range(0, 6000, 50)))
        assert (likely_scores <= scores).all()
    auto, _ = index.search_many(queries, method="auto")
    np.testing.assert_array_equal(auto, index.search_many(queries, method="exact")[0])
    assert (likely >= 5000).any()


def test_approximate_search_scans_few_rows(tmp_path):
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(100, 32))
    vectors = centres[generator.integers(0, 100, 20_000)] + 0.3 * generator.normal(size=(20_000, 32))
    index = Index.create(tmp_path / "index", 32)
    index.append(vectors, table(range(20_000)))
    index.build_ann()
    seen = []
    probe = type(index.snapshot.lists).probe

    class Counting(type(index.snapshot.lists)):
        def probe(self, tally, part):
            done = probe(self, tally, part)
            seen.append(sum(int((b[:, 1] - b[:, 0]).sum()) for _, b, _ in tally.seen))
            return done

    lists = index.snapshot.lists
    object.__setattr__(lists, "__class__", Counting)
    index.search_many(vectors[:50], method="ann")
    assert len(seen) == 50
    assert np.median(seen) < 20_000 / 3


def test_lists_of_odd_rows(tmp_path):
    """Few rows, all the same, or each alone."""
    for n, vectors in enumerate(
        (np.ones((1, 4)), np.ones((500, 4)), np.eye(300), np.random.default_rng(0).normal(size=(70, 2)))
    ):
        index = Index.create(tmp_path / f"index{n}", vectors.shape[1])
        index.append(vectors, table(range(len(vectors))))
        index.build_ann()
        hits = index.search(vectors[-1], k=3, method="ann")
        assert hits["score"].iloc[0] == pytest.approx(1, abs=1e-3)
        assert len(hits) == min(3, len(vectors))
    empty = Index.create(tmp_path / "empty", 4)
    empty.build_ann()
    assert len(empty.search(np.ones(4), method="ann")) == 0


def test_merged_and_partitioned_searches_agree(tmp_path):
    folders, ids, kept = [], iter(range(1000)), []
    for n, size in enumerate((40, 1, 90)):
        mine = [next(ids) for _ in range(size)]
        index = Index.create(tmp_path / f"part{n}", WIDE, about={"model_sha256": "ab", "n": n})
        for start in range(0, size, 30):
            index.append(**batch(mine[start : start + 30], jobs={f"{n}-{start}": start}))
        gone = mine[2::9]
        index.delete([f"chip-{k}" for k in gone]) if gone else None
        kept += [k for k in mine if k not in set(gone)]
        folders.append(index.folder)
    empty = Index.create(tmp_path / "nothing", WIDE, about={"model_sha256": "ab"})
    folders.insert(1, empty.folder)
    merged = merge_indexes(folders, tmp_path / "merged")
    check(merged, kept)
    assert verify_index(merged.folder) == []
    assert merged.about == {"model_sha256": "ab", "n": 0}
    assert set(merged.jobs) == {"0-0", "0-30", "1-0", "2-0", "2-30", "2-60"}
    with dask.config.set(scheduler="synchronous"):
        for query in np.random.default_rng(0).normal(size=(5, WIDE)):
            for options in ({}, {"k": 500}, {"aoi": (0.0, 0.0, 3.0, 4.0)}, {"aoi": (-9.0, -9.0, -8.0, -8.0)}):
                one, parts = merged.search(query, **options), search_partitions(folders, query, **options)
                assert parts["number"].tolist() == one["number"].tolist()
                np.testing.assert_array_equal(parts["score"], one["score"])
                assert set(parts.columns) == {*one.columns, "folder", "row"}
                assert parts.crs == one.crs
        hit = search_partitions(folders, vector_of([kept[-1]])[0], k=1).iloc[0]
    assert Index.open(hit["folder"]).pictures([hit["row"]]) == [f"picture {kept[-1]}".encode()]


def test_ties_across_partitions_come_in_order(tmp_path):
    for n in range(3):
        index = Index.create(tmp_path / f"{n}", 4)
        index.append(np.ones((5, 4)), table(range(n * 5, n * 5 + 5)))
    folders = [tmp_path / f"{n}" for n in range(3)]
    merged = merge_indexes(folders, tmp_path / "merged")
    parts = search_partitions(folders, np.ones(4), k=8)
    assert parts["number"].tolist() == merged.search(np.ones(4), k=8)["number"].tolist() == list(range(8))


def test_merging_refuses_what_does_not_belong_together(tmp_path):
    first = small(tmp_path / "a")
    for name, change, about in (("b", WIDE + 1, {"model_sha256": "ab"}), ("c", WIDE, {"model_sha256": "cd"})):
        Index.create(tmp_path / name, change, about=about)
        with pytest.raises(ConfigError, match="do not belong together"):
            merge_indexes([first.folder, tmp_path / name], tmp_path / "merged")
    bare = Index.create(tmp_path / "d", WIDE, about={"model_sha256": "ab"})
    bare.append(vector_of([900]), table([900]))
    with pytest.raises(ConfigError, match="pictures and cells"):
        merge_indexes([first.folder, bare.folder], tmp_path / "merged")
    with pytest.raises(ConfigError, match="occurs in two"):
        merge_indexes([first.folder, first.folder], tmp_path / "merged")
    with pytest.raises(OutputError, match="something else"):
        merge_indexes([first.folder], tmp_path / "d")
    with pytest.raises(ConfigError, match="no index"):
        merge_indexes([], tmp_path / "merged")
    with pytest.raises(ConfigError, match="no index"):
        search_partitions([], np.ones(WIDE))
    with pytest.raises(PackageError, match="not an index"):
        merge_indexes([first.folder, tmp_path / "none"], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_retrieval_needs_no_torch():
    code = "import sys; import geomm.retrieval; assert not {'torch', 'lightning', 'usearch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
