"""Peak memory of `geomm predict`: a scene, and the same scene tiled 4x4. Prints both and their ratio.

Each prediction is a process of its own; the figure is the operating system's peak resident size of that process.
Also prints what importing geomm and `geomm --help` cost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDE = int(os.environ.get("SIDE", "600"))
STREAMS = {
    "optical": ("landsat-oli-l1", ("B2", "B3", "B4", "B5", "B6", "B7")),
    "thermal": ("landsat-tirs-l1", ("B10", "B11")),
}


def write_scene(folder: Path, repeat: int) -> None:
    """Write a tiled, compressed scene of SIDE * repeat pixels: the same tile repeated."""
    import numpy as np
    import rasterio
    from affine import Affine

    from geomm.sensors import get_sensor
    from geomm.testing import stored_field

    folder.mkdir(parents=True)
    for sensor, bands in STREAMS.values():
        for k, name in enumerate(bands):
            tile = stored_field(get_sensor(sensor).band(name), (SIDE, SIDE), seed=k)
            tile = tile + np.random.default_rng(k).integers(0, 40, tile.shape).astype(tile.dtype)
            with rasterio.open(
                folder / f"scene_{name}.tif",
                "w",
                driver="GTiff",
                height=SIDE * repeat,
                width=SIDE * repeat,
                count=1,
                dtype=tile.dtype,
                crs="EPSG:32632",
                transform=Affine(30, 0, 5e5, 0, -30, 4e6),
                tiled=True,
                compress="deflate",
                zlevel=1,
            ) as file:
                for y in range(repeat):
                    for x in range(repeat):
                        file.write(tile, 1, window=rasterio.windows.Window(x * SIDE, y * SIDE, SIDE, SIDE))


def write_model(folder: Path) -> None:
    """Write an untrained model of the demo's size; memory does not depend on its weights."""
    from geomm.models.multimodal import ModelSpec, MultimodalModel
    from geomm.package import InputContract, save_package
    from geomm.train import Fitted
    from geomm.transforms import Normaliser
    from geomm.types import ClassSpec, Modality

    bands = {n: len(b) for n, (_, b) in STREAMS.items()}
    normaliser = Normaliser({n: (0.2,) * b for n, b in bands.items()}, {n: (1.0,) * b for n, b in bands.items()})
    contract = InputContract(
        {n: Modality(*pair) for n, pair in STREAMS.items()},
        {"optical": "reflectance", "thermal": "kelvin_brightness_temperature"},
        tuple(ClassSpec(k, f"class {k}", "#336699") for k in range(3)),
        30.0,
        192,
        32,
        tuple(STREAMS),
    )
    model = MultimodalModel(ModelSpec(bands, 3, width=12)).eval()
    save_package(Fitted(model, normaliser, ()), contract, folder, name="memory")


def measure(command: list[str]) -> tuple[float, float]:
    """Run a command; return its peak resident MiB and its seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed with {status}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return usage.ru_maxrss / unit, time.perf_counter() - start


def main() -> None:
    """Print the figures."""
    geomm = str(Path(sys.executable).with_name("geomm"))
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        # The inputs are made by another process: a child starts with the peak of the process that forks it.
        subprocess.run([sys.executable, __file__, scratch], check=True)
        peaks = []
        for repeat in (1, 4):
            out = str(root / f"maps{repeat}")
            source = str(root / f"x{repeat}")
            peak, seconds = measure(
                [geomm, "predict", str(root / "model"), source, "-o", out, "--datetime", "2020-06-01"]
            )
            peaks.append(peak)
            side = SIDE * repeat
            print(f"predict {side} x {side}: peak {peak:.0f} MiB, {seconds:.1f} s")
        print(f"ratio of peaks, 4x4 tiled to single: {peaks[1] / peaks[0]:.3f} (must be within 1.2)")
    for label, command in (
        ("import geomm", [sys.executable, "-c", "import geomm"]),
        ("geomm --help", [geomm, "--help"]),
    ):
        peak, seconds = min((measure(command) for _ in range(5)), key=lambda pair: pair[1])
        print(f"{label}: {seconds:.2f} s, peak {peak:.0f} MiB (best of 5)")


def prepare(root: Path) -> None:
    """Write the model and both scenes."""
    write_model(root / "model")
    for repeat in (1, 4):
        write_scene(root / f"x{repeat}", repeat)


if __name__ == "__main__":
    prepare(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
