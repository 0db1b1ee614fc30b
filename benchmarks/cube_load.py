"""Loading three sensors onto one grid: geomm, odc-stac, decoding alone; seconds, tasks, decodes, error against truth.

The scenes are smooth waves, so that the truth is known at every pixel: Sentinel-2 at 10 and 20 m, Sentinel-1 on an
offset grid, thermal in the neighbouring UTM zone. SIDE (default 4096) is the height and width of the 10 m grid. The
three runs are repeated in turn, three times, in one process; ratios are of medians. The graph of a full tile is built
without files.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import geomm
from geomm.testing import CountingReader, full_tile

SIDE = int(os.environ.get("SIDE", "4096"))
CHUNK = 1024
TEN = (600000.0, 5200020.0)
ZONE = Transformer.from_crs("EPSG:32633", "EPSG:32632", always_xy=True)
LAYERS = {
    "B04": ("sentinel2-l1c", "EPSG:32632", 10.0, TEN, "uint16", 1.0),
    "B08": ("sentinel2-l1c", "EPSG:32632", 10.0, TEN, "uint16", 1.0),
    "B05": ("sentinel2-l1c", "EPSG:32632", 20.0, TEN, "uint16", 1.0),
    "B11": ("sentinel2-l1c", "EPSG:32632", 20.0, TEN, "uint16", 1.0),
    "VV": ("sentinel1-rtc", "EPSG:32632", 10.0, (599993.0, 5200033.0), "float32", 1.0),
    "ST_B10": ("landsat-tirs-l2", "EPSG:32633", 30.0, (138000.0, 5216000.0), "uint16", 1.3),
}
STREAMS = {
    "optical": geomm.Modality("sentinel2-l1c", ("B04", "B08", "B05", "B11")),
    "sar": geomm.Modality("sentinel1-rtc", ("VV",)),
    "thermal": geomm.Modality("landsat-tirs-l2", ("ST_B10",)),
}
GRID = GeoBox((SIDE, SIDE), Affine(10, 0, TEN[0], 0, -10, TEN[1]), "EPSG:32632")


def field(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Waves of 1.2 to 2 km, in metres of zone 32."""
    return 14000 + 3000 * np.sin(x / 200.0 + y / 300.0) + 2000 * np.cos(y / 250.0)


def write_scenes(folder: Path) -> None:
    """Write every layer as a tiled, compressed GeoTIFF."""
    for name, (_, crs, size, (left, top), dtype, wider) in LAYERS.items():
        side = int(SIDE * 10 * wider / size) + 2
        with rasterio.open(
            folder / f"s_{name}.tif", "w", driver="GTiff", height=side, width=side, count=1, dtype=dtype, crs=crs,
            transform=Affine(size, 0, left, 0, -size, top), tiled=True, blockxsize=512, blockysize=512,
            compress="deflate", predictor=2 if dtype == "uint16" else 3,
        ) as file:  # fmt: skip
            for row in range(0, side, 512):
                height = min(512, side - row)
                x, y = np.meshgrid(left + (np.arange(side) + 0.5) * size, top - (row + np.arange(height) + 0.5) * size)
                if crs == "EPSG:32633":
                    x, y = ZONE.transform(x, y)
                values = field(x, y)
                window = rasterio.windows.Window(0, row, side, height)
                file.write(
                    values.round().astype(dtype) if dtype == "uint16" else values.astype(dtype), 1, window=window
                )


def truth() -> np.ndarray:
    """The field at the centres of the grid."""
    x, y = np.meshgrid(TEN[0] + (np.arange(SIDE) + 0.5) * 10, TEN[1] - (np.arange(SIDE) + 0.5) * 10)
    return field(x, y)


def by_geomm(scenes: list, reader: CountingReader) -> dict[str, np.ndarray]:
    """Load with geomm."""
    cube = geomm.load_cube(scenes, GRID, STREAMS, chunks=CHUNK, reader=reader).compute()
    return {
        "SAR offset grid": cube["sar"]["data"].to_numpy()[0, 0],
        "20 m band": cube["optical"]["data"].to_numpy()[0, 2],
        "thermal, other zone": cube["thermal"]["data"].to_numpy()[0, 0],
    }


def by_odc(items: list) -> dict[str, np.ndarray]:
    """Load with odc-stac, bilinear, per band as its users do."""
    import odc.stac

    options = {"geobox": GRID, "chunks": {"x": CHUNK, "y": CHUNK}, "resampling": "bilinear"}
    loaded = odc.stac.load(items, bands=list(LAYERS), **options).compute()
    return {"SAR offset grid": loaded["VV"].to_numpy()[0], "20 m band": loaded["B05"].to_numpy()[0],
            "thermal, other zone": loaded["ST_B10"].to_numpy()[0]}  # fmt: skip


def decode(folder: Path) -> None:
    """Decode every file once, two threads as the others: nothing can be faster."""
    from concurrent.futures import ThreadPoolExecutor

    def one(name: str) -> None:
        with rasterio.open(folder / f"s_{name}.tif") as file:
            for _, window in file.block_windows(1):
                file.read(1, window=window)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, LAYERS))


def timed(function, *arguments):
    """Return seconds and result."""
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def loading(folder: Path) -> None:
    """Print seconds, ratios, decodes and errors of loading."""
    write_scenes(folder)
    sensors = ("sentinel2-l1c", "sentinel1-rtc", "landsat-tirs-l2")
    catalog = geomm.build_catalog(folder, folder / "catalog", sensors=sensors, datetime="2023-06-01")
    scenes, items = catalog.search(sentinel2_offset=0), list(catalog.items())
    seconds: dict[str, list[float]] = {"decode": [], "geomm": [], "odc-stac": []}
    results: dict[str, dict[str, np.ndarray]] = {}
    reader = CountingReader()
    by_geomm(scenes, CountingReader())  # compiles the kernels
    for _ in range(3):
        seconds["decode"].append(timed(decode, folder)[0])
        reader = CountingReader()
        took, results["geomm"] = timed(by_geomm, scenes, reader)
        seconds["geomm"].append(took)
        took, results["odc-stac"] = timed(by_odc, items)
        seconds["odc-stac"].append(took)
    middle = {name: statistics.median(v) for name, v in seconds.items()}
    print(f"{SIDE} x {SIDE} pixels, 6 bands of 3 sensors, chunks of {CHUNK}, median of 3")
    for name, value in middle.items():
        print(f"  {name:9} {value:6.2f} s, {value / middle['decode']:5.2f} x decoding alone")
    print(f"  geomm: {sum(reader.blocks.values())} cells decoded, at most {max(reader.blocks.values())} times each")
    expected, inner = truth(), np.s_[64:-64, 64:-64]
    for name in results["geomm"]:
        row = []
        for who in ("geomm", "odc-stac"):
            error = np.abs(results[who][name][inner].astype(float) - expected[inner])
            row.append(f"{who} rmse {np.sqrt((error**2).mean()):.3f}, max {error.max():.2f}")
        print(f"  {name:20} {'; '.join(row)} (of 10,000, waves of 1.2 to 2 km)")


def graph() -> None:
    """Print seconds and tasks of a whole tile's graph."""
    grid, streams, scenes = full_tile()
    for chunk in (2048, 1024, 512, 256):
        took, cube = timed(lambda c=chunk: geomm.load_cube(scenes, grid, streams, chunks=c))
        tasks = {}
        for node in cube.children.values():
            tasks.update(dict(node["valid"].data.__dask_graph__()))
            tasks.update(dict(node["data"].data.__dask_graph__()))
        print(f"graph of a 10,980 x 10,980 cube of 10 bands, chunks of {chunk}: {took:.2f} s, {len(tasks)} tasks")


def main() -> None:
    """Print everything."""
    warnings.simplefilter("ignore")
    graph()
    with tempfile.TemporaryDirectory() as scratch:
        loading(Path(scratch))
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
