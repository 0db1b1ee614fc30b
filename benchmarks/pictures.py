"""The first picture of a large scene: geomm's plot, and how xarray users make one, each in a process of its own.

`.venv/bin/python benchmarks/pictures.py [SIDE]` writes a scene of SIDE x SIDE pixels (default 10980) with three bands,
as Sentinel-2 has them, then draws it in natural colours.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np

os.environ["MPLBACKEND"] = "Agg"
BANDS = ("B02", "B03", "B04")


def write(folder: Path, side: int) -> None:
    """Write three bands as tiled GeoTIFFs with overviews left out, as products of level 1C have none."""
    import rasterio
    from rasterio.transform import from_origin

    rng = np.random.default_rng(0)
    coarse = rng.integers(300, 3000, (side // 60 + 1, side // 60 + 1))
    scene = np.kron(coarse, np.ones((60, 60), int))[:side, :side]
    profile = {
        "driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint16", "nodata": 0, "tiled": True,
        "blockxsize": 512, "blockysize": 512, "compress": "deflate", "predictor": 2, "crs": "EPSG:32632",
        "transform": from_origin(600000, 5100000, 10, 10),
    }  # fmt: skip
    for k, band in enumerate(BANDS):
        with rasterio.open(folder / f"scene_{band}.tif", "w", **profile) as file:
            file.write((scene * (1 + 0.1 * k) + rng.integers(0, 60, scene.shape)).astype("uint16"), 1)


def geomm_picture(folder: Path) -> None:
    import geomm

    catalog = geomm.build_catalog(folder, folder / "catalog", sensors=["sentinel2-l1c"], datetime="2020-06-01")
    scenes = catalog.search(sentinel2_offset=0)
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes))
    cube.geomm.plot.rgb().figure.savefig(folder / "geomm.png")


def xarray_picture(folder: Path) -> None:
    import matplotlib.pyplot as plt
    import rioxarray
    import xarray as xr

    bands = [rioxarray.open_rasterio(folder / f"scene_{b}.tif", chunks=1024, masked=True)[0] for b in BANDS[::-1]]
    xr.concat(bands, "band").plot.imshow(rgb="band", robust=True)
    plt.savefig(folder / "xarray.png")


def thinned_picture(folder: Path) -> None:
    """The same with every n-th pixel, as people do when the whole does not fit."""
    import matplotlib.pyplot as plt
    import rioxarray
    import xarray as xr

    bands = [rioxarray.open_rasterio(folder / f"scene_{b}.tif", chunks=1024, masked=True)[0] for b in BANDS[::-1]]
    every = max(1, bands[0].sizes["x"] // 800)
    xr.concat(bands, "band")[:, ::every, ::every].plot.imshow(rgb="band", robust=True)
    plt.savefig(folder / "thinned.png")


WAYS = {"geomm": geomm_picture, "xarray": xarray_picture, "xarray, every n-th pixel": thinned_picture}


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 10980
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([sys.executable, __file__, "--write", name, str(side)], check=True)  # its memory is its own
        for way in [*WAYS] * 2:  # the first round warms the page cache
            command = [sys.executable, __file__, "--one", way, name]
            told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"{way:26} {told['seconds']:6.1f} s, peak {told['mb']:6.0f} MB, {told['before']:.0f} MB of imports")


def one(way: str, folder: str) -> None:
    for name in ("dask.array", "matplotlib.pyplot", "rioxarray", "geomm.cube"):  # not part of what is compared
        import_module(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    started = time.perf_counter()
    WAYS[way](Path(folder))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"seconds": seconds, "mb": peak - before, "before": before}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case "--one", way, folder:
            one(way, folder)
        case "--write", folder, side:
            write(Path(folder), int(side))
        case _:
            main()
