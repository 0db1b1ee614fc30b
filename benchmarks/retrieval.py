"""Nearest neighbours among embeddings of 512: geomm, NumPy, usearch, faiss, and how fast the same bytes can be read.

SIZES (default 100000,1000000) rows: 4000 unequal clusters and noise, unit length, seeded. Queries are rows with noise,
and random directions, which are near nothing. Footprints lie so that longitude goes with the cluster and latitude with
nothing: a filter by longitude keeps rows that are alike, one by latitude keeps any. All cases take their turns query by
query in one process, each time in another order, so that they find the caches and the machine in the same state;
figures are medians of REPEATS (default 40) queries. Truth is float32 by NumPy; that of filtered search is geomm's exact
search of the same rows. The limit reads codes and scales once, with as many threads. usearch's graph is built up to
GRAPH rows (default 100000: at a million that takes 25 minutes on two cores). faiss is measured where it is installed.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np

from geomm.retrieval import Index, verify_index
from geomm.retrieval.filters import Filter
from geomm.retrieval.kernels import _prefetch
from geomm.retrieval.snapshot import threads

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when OpenMP starts: threads that wait do not spin
SIZES = [int(n) for n in os.environ.get("SIZES", "100000,1000000").split(",")]
REPEATS, GRAPH = int(os.environ.get("REPEATS", "40")), int(os.environ.get("GRAPH", "100000"))
WIDE, K, CLUSTERS, BATCH = 512, 10, 4000, 100_000
FAISS = importlib.util.find_spec("faiss") is not None
USEARCH = importlib.util.find_spec("usearch") is not None


def make(rows: int, folder: Path):
    """Vectors float32 on disk, the cluster of each, and two kinds of queries."""
    generator = np.random.default_rng(11)
    centres = generator.standard_normal((CLUSTERS, WIDE), dtype=np.float32)
    weights = generator.pareto(1.5, CLUSTERS) + 0.1
    labels = generator.choice(CLUSTERS, rows, p=weights / weights.sum())
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, WIDE))
    for start in range(0, rows, BATCH):
        part = slice(start, min(start + BATCH, rows))
        some = centres[labels[part]] + 0.9 * generator.standard_normal((part.stop - start, WIDE), dtype=np.float32)
        vectors[part] = some / np.linalg.norm(some, axis=1, keepdims=True)
    near = vectors[generator.choice(rows, 200)] + 0.03 * generator.standard_normal((200, WIDE), dtype=np.float32)
    anywhere = generator.standard_normal((50, WIDE), dtype=np.float32)
    vectors.flush()
    return np.asarray(vectors), labels, *(q / np.linalg.norm(q, axis=1, keepdims=True) for q in (near, anywhere))


def build(vectors, labels, folder: Path) -> tuple[Index, dict[str, float]]:
    """Write the index; return it and the seconds that it took."""
    import geopandas
    import pandas as pd
    import shapely

    generator = np.random.default_rng(3)
    rows = len(vectors)
    west, south = labels / CLUSTERS * 300 - 150 + generator.uniform(0, 1, rows), generator.uniform(-50, 50, rows)
    index, seconds = Index.create(folder / "index", WIDE), 0.0
    for start in range(0, rows, BATCH):
        part = slice(start, min(start + BATCH, rows))
        numbers = np.arange(start, part.stop)
        columns = {
            "id": [f"chip-{k:08d}" for k in numbers],
            "datetime": pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(numbers, unit="s"),
            "sensors": "sentinel2-l2a,sentinel1-rtc",
            "text": [f"cluster {k}" for k in labels[part]],
        }
        shapes = shapely.box(west[part], south[part], west[part] + 0.02, south[part] + 0.02)
        table = geopandas.GeoDataFrame(columns, geometry=shapes, crs="EPSG:4326")
        begin = time.perf_counter()
        index.append(vectors[part], table)
        seconds += time.perf_counter() - begin
    begin = time.perf_counter()
    index.compact()
    compact = time.perf_counter() - begin
    begin = time.perf_counter()
    index.build_ann()
    lists = time.perf_counter() - begin
    begin = time.perf_counter()
    opened = Index.open(folder / "index")
    return opened, {"append": seconds, "compact": compact, "lists": lists, "open": time.perf_counter() - begin}


@numba.njit(nogil=True)
def _read(words, first, last):
    total = np.int64(0)
    for start in range(first, last, 64):
        for j in range(0, 64, 8):
            _prefetch(words, (start + j + 512) * 8)
        for j in range(64):
            total += words[start + j]
    return total


def limit_of(index: Index):
    """Return what reads the codes and scales of all rows once."""
    lists = index.snapshot.lists
    arrays = [a.reshape(-1).view(np.int64) for a in (lists.codes.codes, lists.codes.scales)]
    pool = ThreadPoolExecutor(threads())

    def read(_query=None):
        for words in arrays:
            cuts = np.linspace(0, len(words) - 1024, 41).astype(np.int64) // 64 * 64
            list(pool.map(lambda k, w=words, c=cuts: _read(w, c[k], c[k + 1]), range(40)))

    return read, sum(a.nbytes for a in arrays)


def top(scores, k=K):
    """Best rows by NumPy."""
    best = np.argpartition(-scores, k)[:k]
    return best[np.argsort(-scores[best])]


def peers(vectors, index: Index, notes: list[str]):
    """Return name -> search of one query, for what is installed."""
    cases = {}
    rows = len(vectors)
    if USEARCH:
        import usearch.index

        codes = index.snapshot.lists.codes.codes
        order = index.snapshot.lists.order

        def scan(query):
            small = np.clip(np.rint(query / np.abs(query).max() * 127), -127, 127).astype(np.int8)
            found = usearch.index.search(codes, small[None], 100, "ip", exact=True, threads=threads())
            near = order[found.keys.astype(np.int64).ravel()]
            return near[top(vectors[near] @ query)]

        cases["usearch exact int8, 100 re-ranked"] = scan
        if rows <= GRAPH:
            begin = time.perf_counter()
            graph = usearch.index.Index(
                ndim=WIDE, metric="ip", dtype="f16", connectivity=32, expansion_add=128, expansion_search=256
            )
            graph.add(np.arange(rows), vectors, threads=threads())
            notes.append(f"usearch graph f16 (32, 128): built in {time.perf_counter() - begin:.0f} s")
            cases["usearch graph f16, expansion 256"] = lambda q: graph.search(q, K).keys.astype(np.int64)
    if FAISS:
        import faiss

        faiss.omp_set_num_threads(threads())
        cases["faiss exact f32"] = lambda q: faiss.knn(q[None], vectors, K, faiss.METRIC_INNER_PRODUCT)[1][0]
        lists = 1024
        begin = time.perf_counter()
        ivf = faiss.index_factory(WIDE, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
        ivf.cp.niter = 8
        ivf.train(vectors[:: max(1, rows // 50_000)])
        for start in range(0, rows, BATCH):
            ivf.add(vectors[start : start + BATCH])
        notes.append(f"faiss IVF{lists}: built in {time.perf_counter() - begin:.0f} s")
        for probes in (16, 64, 256):
            settings = faiss.SearchParametersIVF(nprobe=probes)
            cases[f"faiss IVF{lists}, {probes} probes"] = lambda q, s=settings: ivf.search(q[None], K, params=s)[1][0]
    return cases


def compare(cases, queries, truth):
    """Run all cases in turn; return name -> median ms and recall."""
    times, hits = {n: [] for n in cases}, {n: [] for n in cases}
    for case in cases.values():
        case(queries[-1])
    generator = np.random.default_rng(0)
    for k in range(REPEATS):
        for name in generator.permutation(list(cases)).tolist():
            case = cases[name]
            begin = time.perf_counter()
            found = case(queries[k])
            times[name].append((time.perf_counter() - begin) * 1e3)
            if found is not None:
                hits[name].append(len(set(found.tolist()) & set(truth[k].tolist())) / K)
    return {n: (statistics.median(times[n]), np.mean(hits[n]) if hits[n] else None) for n in cases}


def unfiltered(index: Index, vectors, near, anywhere, notes):
    """Print the table of search among all rows."""
    read, size = limit_of(index)
    queries = near[:REPEATS]
    truth = np.array([top(vectors @ q) for q in queries])
    cases = {
        "limit: read the codes once": read,
        "geomm exact": lambda q: index.search_many(q[None], k=K, method="exact")[0][0],
        "geomm approximate": lambda q: index.search_many(q[None], k=K, method="ann")[0][0],
        "NumPy exact f32": lambda q: top(vectors @ q),
        "geomm exact, with the rows": lambda q: index.search(q, k=K, method="exact").index.to_numpy(),
        "geomm approximate, with the rows": lambda q: index.search(q, k=K, method="ann").index.to_numpy(),
        **peers(vectors, index, notes),
    }
    found = compare(cases, queries, truth)
    exact, limit, plain = (found[n][0] for n in ("geomm exact", "limit: read the codes once", "NumPy exact f32"))
    print("| one query among all | ms | times geomm exact | recall@10 |\n|---|---|---|---|")
    for name, (ms, recall) in found.items():
        print(f"| {name} | {ms:.2f} | {exact / ms:.2f} | {'' if recall is None else f'{recall:.4f}'} |")
    print(f"\nexact: {exact / limit:.2f} of the limit ({size / 1e6:.0f} MB at {size / limit / 1e6:.1f} GB/s), ", end="")
    print(f"{plain / exact:.2f} times as fast as NumPy; approximate: {exact / found['geomm approximate'][0]:.1f} times")
    for name, some in (("near rows", near), ("anywhere", anywhere)):
        best = index.search_many(some, k=K, method="exact")[0]
        likely = index.search_many(some, k=K, method="ann")[0]
        shares = [len(set(a) & set(b)) / K for a, b in zip(best, likely, strict=True)]
        print(f"approximate, {len(some)} queries {name}: recall@10 {np.mean(shares):.4f}, least {min(shares):.2f}")
    times = {}
    for name, case in {
        "geomm": lambda: index.search_many(near[:64], k=K, method="exact"),
        "NumPy": lambda: [top(s) for s in (vectors @ near[:64].T).T],
    }.items():
        begin = time.perf_counter()
        case()
        times[name] = (time.perf_counter() - begin) / 64 * 1e3
    print("exact, 64 queries at once, ms each: " + ", ".join(f"{n} {ms:.1f}" for n, ms in times.items()))


def filtered(index: Index, near):
    """Print the table of search among some rows."""
    print("\n| filter | rows | exact ms | auto ms | auto recall@20 | approximate ms | approximate recall@20 |")
    print("|---|---|---|---|---|---|---|")
    world = (-180.0, -90.0, 180.0, 90.0)
    cases = {"100 %": world}
    for share in (10, 1, 0.1):
        cases[f"{share} %, any rows"] = (-180.0, -share / 2, 180.0, share / 2)
        cases[f"{share} %, rows alike"] = (-share * 1.5, -90.0, share * 1.5, 90.0)
    for name, area in cases.items():
        times, hits = {m: [] for m in ("exact", "auto", "ann")}, {"auto": [], "ann": []}
        for query in near[: max(10, REPEATS // 2)]:
            found = {}
            for method, spent in times.items():
                begin = time.perf_counter()
                found[method] = index.search_many(query[None], k=20, aoi=area, method=method)[0][0]
                spent.append((time.perf_counter() - begin) * 1e3)
            best = set(found["exact"].tolist()) - {-1}
            for method, shares in hits.items():
                shares.append(len(best & set(found[method].tolist())) / max(len(best), 1))
        count = sum(map(len, index.snapshot.choices(Filter.of(area, None, ()), index.pool)))
        cells = [f"{statistics.median(times['exact']):.2f}"]
        for method in ("auto", "ann"):
            cells += [f"{statistics.median(times[method]):.2f}", f"{np.mean(hits[method]):.4f}"]
        print(f"| {name} | {count:,} | {' | '.join(cells)} |")


def main() -> None:
    for rows in SIZES:
        with tempfile.TemporaryDirectory(prefix="geomm-retrieval-") as name:
            begin = time.perf_counter()
            folder, notes = Path(name), []
            vectors, labels, near, anywhere = make(rows, folder)
            index, seconds = build(vectors, labels, folder)
            size = sum(p.stat().st_size for p in index.folder.rglob("*") if p.is_file())
            print(f"\n## {rows:,} x {WIDE}, {threads()} threads\n")
            unfiltered(index, vectors, near, anywhere, notes)
            filtered(index, near)
            checked = time.perf_counter()
            assert verify_index(index.folder) == []
            notes.append(f"every byte verified in {time.perf_counter() - checked:.1f} s")
            notes.append(", ".join(f"{k} {v:.1f} s" for k, v in seconds.items() if k != "open"))
            notes.append(f"opened in {seconds['open'] * 1e3:.0f} ms, {size / 1e6:.0f} MB on disk")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            notes.append(f"{time.perf_counter() - begin:.0f} s in all, at most {peak:.1f} GB of memory, maps included")
            print("\n" + "\n".join(notes), flush=True)


if __name__ == "__main__":
    main()
