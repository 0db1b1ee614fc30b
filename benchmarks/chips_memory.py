"""Peak memory and decodes of streaming a whole tile of 10,980 pixels, and one four times as large.

The layers of benchmarks/chips.py without noise, so that they are written fast: memory depends on the size of blocks,
not on what is in them. Each tile is streamed in grid order by a process of its own, without torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

SIDES = [int(v) for v in os.environ.get("SIDES", "10980,21960").split(",")]


def write_scenes(folder: Path, side: int) -> None:
    """Write every layer, a stripe of blocks at a time."""
    import rasterio
    from affine import Affine
    from chips import LAYERS

    for name, (crs, size, (left, top), dtype, block, predictor, mean, _) in LAYERS.items():
        wide = {10.0: side + (1024 if name in ("VV", "VH") else 0), 20.0: side // 2, 30.0: side // 3 + 1600}[size]
        with rasterio.open(
            folder / f"s_{name}.tif", "w", driver="GTiff", height=wide, width=wide, count=1, dtype=dtype, crs=crs,
            nodata=0, transform=Affine(size, 0, left, 0, -size, top), tiled=True, blockxsize=block, blockysize=block,
            compress="deflate", predictor=predictor, zlevel=1, num_threads="all_cpus", bigtiff="if_safer",
        ) as file:  # fmt: skip
            for row in range(0, wide, block):
                stripe = np.full((min(block, wide - row), wide), mean, dtype)
                file.write(stripe, 1, window=rasterio.windows.Window(0, row, wide, len(stripe)))


def stream(folder: Path) -> None:
    """Stream every chip and print what it took."""
    from chips import counted, grid_origins, reader_of

    warnings.simplefilter("ignore")
    counting = counted()
    reader = reader_of(folder, grid_origins(), counting)
    count = sum(len(arrays.chips) for arrays in reader.stream(8))
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    blocks = counting.blocks
    print(json.dumps([count, int(peak.split()[1]) / 1024, sum(blocks.values()) / len(blocks), max(blocks.values())]))


def main() -> None:
    """Print a line for every size."""
    import geomm

    for side in SIDES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_scenes(folder, side)
            sensors = ("sentinel2-l1c", "sentinel1-rtc", "landsat-tirs-l1", "landcover")
            geomm.build_catalog(folder, folder / "catalog", sensors=sensors, datetime="2023-06-01")
            run = subprocess.run(
                [sys.executable, __file__, str(folder)],
                capture_output=True, text=True, check=True, env={**os.environ, "SIDE": str(side // 256 * 256)},
            )  # fmt: skip
        chips, peak, decodes, most = json.loads(run.stdout)
        print(
            f"{side} x {side}: {chips} chips, peak {peak:.0f} MiB, blocks decoded {decodes:.3f} times, at most {most}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        stream(Path(sys.argv[1]))
    else:
        main()
