"""Peak memory of `geomm predict`: a scene, the same tiled 4x4 as one scene, and as a mosaic of 16 scenes.

Each prediction is a process of its own; the figure is the operating system's peak resident size of that process. What
the libraries and the model take by themselves is that of a scene of 64 pixels. SIDE (default 4096) is the side of the
scene. Also prints what importing geomm and `geomm --help` cost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIDE = int(os.environ.get("SIDE", "4096"))
STREAMS = {
    "optical": ("landsat-oli-l1", ("B2", "B3", "B4", "B5", "B6", "B7")),
    "thermal": ("landsat-tirs-l1", ("B10", "B11")),
}


def write_scene(folder: Path, side: int, repeat: int, *, apart: bool = False) -> None:
    """Write a tiled, compressed scene of ``side * repeat`` pixels, the same tile repeated; or each as a scene."""
    import numpy as np
    import rasterio
    from affine import Affine

    from geomm.sensors import get_sensor
    from geomm.testing import stored_field

    folder.mkdir(parents=True)
    for sensor, bands in STREAMS.values():
        for k, name in enumerate(bands):
            tile = stored_field(get_sensor(sensor).band(name), (side, side), seed=k)
            tile = tile + np.random.default_rng(k).integers(0, 40, tile.shape).astype(tile.dtype)
            about = {"driver": "GTiff", "count": 1, "dtype": tile.dtype, "crs": "EPSG:32632", "tiled": True}
            about |= {"compress": "deflate", "zlevel": 1}
            places = [(y, x) for y in range(repeat) for x in range(repeat)]
            if apart:
                for y, x in places:
                    here = Affine(30, 0, 3e5 + 30 * side * x, 0, -30, 4e6 - 30 * side * y)
                    path = folder / f"scene{y}{x}_{name}.tif"
                    with rasterio.open(path, "w", height=side, width=side, transform=here, **about) as file:
                        file.write(tile, 1)
                continue
            whole, here = side * repeat, Affine(30, 0, 3e5, 0, -30, 4e6)
            path = folder / f"scene_{name}.tif"
            with rasterio.open(
                path, "w", height=whole, width=whole, transform=here, bigtiff="if_safer", **about
            ) as file:
                for y, x in places:
                    file.write(tile, 1, window=rasterio.windows.Window(x * side, y * side, side, side))


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
        peaks = {}
        for name, options in (("alone", []), ("x1", []), ("x4", []), ("mosaic", ["--mosaic"])):
            command = [geomm, "predict", str(root / "model"), str(root / name), "-o", str(root / f"maps-{name}")]
            peaks[name], seconds = measure([*command, "--datetime", "2020-06-01", "--layer", "class", *options])
            above = peaks[name] - peaks["alone"]
            print(
                f"predict {name}: peak {peaks[name]:.0f} MiB, {above:.0f} above the model; {seconds:.1f} s", flush=True
            )
        for name in ("x4", "mosaic"):
            print(f"ratio of peaks, {name} to the single scene: {peaks[name] / peaks['x1']:.3f} (wanted: within 1.1)")
    for label, command in (
        ("import geomm", [sys.executable, "-c", "import geomm"]),
        ("geomm --help", [geomm, "--help"]),
    ):
        peak, seconds = min((measure(command) for _ in range(5)), key=lambda pair: pair[1])
        print(f"{label}: {seconds:.2f} s, peak {peak:.0f} MiB (best of 5)")


def prepare(root: Path) -> None:
    """Write the model and the scenes."""
    write_model(root / "model")
    write_scene(root / "alone", 64, 1)
    write_scene(root / "x1", SIDE, 1)
    write_scene(root / "x4", SIDE, 4)
    write_scene(root / "mosaic", SIDE, 4, apart=True)


if __name__ == "__main__":
    prepare(Path(sys.argv[1])) if len(sys.argv) > 1 else main()
