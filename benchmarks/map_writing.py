"""Writing a class map of a whole tile (10,980 x 10,980) as COG: seconds and memory, beside GDAL's own ways.

The map is noise on patches, as a model's answer is; blocks of 1,024 pixels as prediction makes them. `geomm` stores
them as they come, joins them, verifies the file and writes sidecars, quicklook and item; `cog from stripes` is rasterio
writing a tiled file stripe by stripe and copying it to a COG; `cog from array` holds the whole map. Each is a process
of its own, in turn, three times; medians. What it means for a prediction: SPEED (default 1.4, of benchmarks/predict.py)
is the megapixels a second of the model.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE, BLOCK, SPEED = 10980, 1024, float(os.environ.get("SPEED", "1.4"))


def write_map(path: Path) -> None:
    """Write the map as NumPy file."""
    from scipy.ndimage import zoom

    generator = np.random.default_rng(0)
    coarse = generator.random((SIDE // 40 + 2, SIDE // 40 + 2))
    codes = (zoom(coarse, 40, order=1)[:SIDE, :SIDE] * 10).astype(np.uint8)
    salt = generator.integers(0, SIDE * SIDE, 2_000_000)
    codes.ravel()[salt] = generator.integers(0, 10, salt.size)
    np.save(path, codes)


def profile() -> dict:
    """Return what all files have in common."""
    from affine import Affine

    place = Affine(10, 0, 600000, 0, -10, 5200020)
    return {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8", "nodata": 255} | {
        "crs": "EPSG:32632",
        "transform": place,
    }


def geomm_product(codes: np.ndarray, folder: Path) -> None:
    """The whole product."""
    from odc.geo.geobox import GeoBox

    from geomm.export import Provenance, write_products
    from geomm.tasks.maps import LAYERS
    from geomm.types import ClassSpec, Prediction, Window

    classes = tuple(ClassSpec(k, f"class {k}", f"#{25 * k:02x}6699") for k in range(10))
    layer = LAYERS["class"][0](classes)

    def blocks():
        for y in range(0, SIDE, BLOCK):
            for x in range(0, SIDE, BLOCK):
                window = Window(y, x, min(BLOCK, SIDE - y), min(BLOCK, SIDE - x))
                yield window, Prediction({"class": np.array(codes[window.slices])[None]}, (layer,))

    grid = GeoBox((SIDE, SIDE), profile()["transform"], "EPSG:32632")
    write_products(blocks(), grid, folder, name="map", source=Provenance(dt.datetime(2023, 6, 1, tzinfo=dt.UTC)))


def stripes(codes: np.ndarray, folder: Path) -> None:
    """A tiled file, then GDAL's COG driver."""
    import rasterio
    import rasterio.shutil
    from rasterio.windows import Window

    options = {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "lzw", "num_threads": 2}
    with rasterio.open(folder / "tiled.tif", "w", **profile(), **options) as file:
        for y in range(0, SIDE, 512):
            height = min(512, SIDE - y)
            file.write(np.array(codes[y : y + height]), 1, window=Window(0, y, SIDE, height))
    to_cog(folder / "tiled.tif", folder)


def array(codes: np.ndarray, folder: Path) -> None:
    """The whole map in memory, then GDAL's COG driver."""
    from rasterio.io import MemoryFile

    with MemoryFile() as memory:
        with memory.open(**profile()) as file:
            file.write(np.array(codes), 1)
        with memory.open() as file:
            to_cog(file, folder)


def to_cog(source, folder: Path) -> None:
    """Copy as its users do."""
    import rasterio.shutil

    options = {"COMPRESS": "DEFLATE", "BLOCKSIZE": 512, "OVERVIEW_RESAMPLING": "MODE", "NUM_THREADS": "2"}
    rasterio.shutil.copy(source, folder / "cog.tif", driver="COG", **options)


CASES = {"geomm": geomm_product, "cog from stripes": stripes, "cog from array": array}


def one(name: str, path: Path) -> None:
    """Run a case in this process."""
    import geomm.export
    import geomm.tasks.maps  # noqa: F401 - imports do not count

    codes = np.load(path, mmap_mode="r")

    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("RssAnon", "VmHWM"))}
        return int(found["RssAnon"])

    import threading

    base, most, over = resident(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], resident() - base)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        CASES[name](codes, Path(scratch))
        seconds = time.perf_counter() - start
    over.set()
    watcher.join()
    sys.stdout.write("RESULT " + json.dumps({"seconds": seconds, "mb": most[0] / 1024}) + "\n")


def main() -> None:
    """Print every case."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "map.npy"
        write_map(path)
        found: dict[str, list[dict]] = {name: [] for name in CASES}
        for name in list(CASES) * 3:
            run = subprocess.run(
                [sys.executable, __file__, name, str(path)], capture_output=True, text=True, check=True
            )
            line = next(k for k in run.stdout.splitlines() if k.startswith("RESULT "))
            found[name].append(json.loads(line[7:]))
    for name, runs in found.items():
        seconds, mb = (statistics.median(r[k] for r in runs) for k in ("seconds", "mb"))
        share = seconds / (SIDE * SIDE / 1e6 / SPEED)
        print(f"{name:18} {seconds:5.1f} s, {mb:4.0f} MiB above start; {share:.1%} of the seconds of prediction")


if __name__ == "__main__":
    one(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main()
