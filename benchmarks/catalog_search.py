"""A search by place and date among 100,000 items of a stac-geoparquet file: seconds and memory, warm and cold.

Two files: one as stac-geoparquet's own writer leaves it (a single row group), one as `geomm catalog index` writes it
(items along a curve, groups of 8,192). Every search runs in a process of its own; memory is that process's peak
resident size above what it was once geomm and its catalog module were imported.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

NUMBER = 100_000
SEARCH = r"""
import re, sys, time
from pathlib import Path
import geomm
from geomm.catalog import open_catalog
def peak():  # not getrusage: a child inherits its parent's figure
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
seconds = []
for _ in range(5):
    start = time.perf_counter()
    found = open_catalog(sys.argv[1]).search((10, 40, 12, 42), "2021-01-01/2021-12-31", sensors=["sentinel2-l2a"])
    seconds.append(time.perf_counter() - start)
extra = peak() - before
print(f"{len(found)} scenes; first search of a process {seconds[0]:.2f} s (imports duckdb, pystac), "
      f"then {min(seconds[1:]):.3f} to {max(seconds[1:]):.3f} s; {extra:.0f} MiB more at the peak")
"""


def table(bands: int) -> pa.Table:
    """Items all over the world and over three years."""
    generator = np.random.default_rng(0)
    west, south = generator.uniform(-179, 178, NUMBER), generator.uniform(-80, 79, NUMBER)
    when = np.datetime64("2020-01-01", "us") + generator.integers(0, 3 * 365 * 86400, NUMBER) * np.timedelta64(1, "s")
    keys = ["red", "nir", "green", "blue", "swir16", "swir22", "nir08", "rededge1", "rededge2", "rededge3"][:bands]
    transform = pa.array([[10.0, 0.0, 6e5, 0.0, -10.0, 5e6]] * NUMBER)
    shape = pa.array([[10980, 10980]] * NUMBER)
    assets = [
        pa.StructArray.from_arrays(
            [
                pa.array([f"https://example.org/{k}/{key}.tif" for k in range(NUMBER)]),
                pa.array(["image/tiff; application=geotiff"] * NUMBER),
                pa.array([["data", "reflectance"]] * NUMBER),
                transform,
                shape,
            ],
            names=["href", "type", "roles", "proj:transform", "proj:shape"],
        )
        for key in keys
    ]
    bounds = [pa.array(v) for v in (west, south, west + 1, south + 1)]
    return pa.table(
        {
            "id": [f"i{k}" for k in range(NUMBER)],
            "collection": ["sentinel-2-l2a"] * NUMBER,
            "geometry": pa.array(shapely.to_wkb(shapely.box(west, south, west + 1, south + 1))),
            "bbox": pa.StructArray.from_arrays(bounds, names=["xmin", "ymin", "xmax", "ymax"]),
            "datetime": pa.array(when).cast(pa.timestamp("us", tz="UTC")),
            "s2:processing_baseline": ["05.00"] * NUMBER,
            "proj:epsg": np.full(NUMBER, 32632),
            "assets": pa.StructArray.from_arrays(assets, names=keys),
        }
    )


def along_a_curve(items: pa.Table) -> pa.Table:
    """Order items as `geomm catalog index` does."""
    box = items["bbox"].combine_chunks()
    x = ((box.field("xmin").to_numpy() + 180.5) / 360 * 65535).astype(np.uint64)
    y = ((box.field("ymin").to_numpy() + 90.5) / 180 * 65535).astype(np.uint64)
    code = np.zeros(NUMBER, np.uint64)
    for k in range(16):
        bit = np.uint64(k)
        code |= ((x >> bit) & np.uint64(1)) << np.uint64(2 * k) | ((y >> bit) & np.uint64(1)) << np.uint64(2 * k + 1)
    return items.take(pa.array(np.argsort(code, kind="stable")))


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        for bands in (3, 10):
            items = table(bands)
            for name, part, size in (("one row group", items, NUMBER), ("groups of 8,192", along_a_curve(items), 8192)):
                path = Path(scratch) / f"{bands}-{size}.parquet"
                pq.write_table(part, path, row_group_size=size)
                answer = subprocess.run([sys.executable, "-W", "ignore", "-c", SEARCH, str(path)],
                                        capture_output=True, text=True, check=True).stdout  # fmt: skip
                print(f"{NUMBER} items of {bands} bands, {name}: {answer.strip()}", flush=True)


if __name__ == "__main__":
    main()
