"""Whole scenes to class maps: geomm, a hand-written smp loop, terratorch's tiled inference, and the bare forward pass.

The model is an untrained Unet with a ResNet-18 of segmentation-models-pytorch, 13 bands to 10 classes, its head spread
so that all classes occur. The scene is that of benchmarks/chips.py. Peers get the normalised image and keep the class
map in memory; chips of 256 pixels with 50 % overlap, as they advise. geomm reads the files; `geomm_cog` also writes the
product. Every case runs in a process of its own, in turn, ROUNDS times; figures are medians, in output megapixels a
second. SIDE (default 4096) is the height and width, CHECK (default 2048) that of the part whose classes are compared
with those of one pass over the whole part. terratorch moves pins of geomm: name the interpreter of an environment of
its own, with segmentation-models-pytorch, in TERRATORCH_PYTHON; without it that row is left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

SIDE, CHECK = int(os.environ.get("SIDE", "4096")), int(os.environ.get("CHECK", "2048"))
ROUNDS, THREADS = int(os.environ.get("ROUNDS", "3")), int(os.environ.get("OMP_NUM_THREADS", "2"))
BANDS, CLASSES = 13, 10
OPTICAL, SAR = (0.15, 0.1), (0.1, 0.05)
MEAN = {"optical": (0.2,) * 10, "sar": (0.1,) * 2, "thermal": (300.0,)}
STD = {"optical": (0.1,) * 10, "sar": (0.05,) * 2, "thermal": (20.0,)}


def network() -> torch.nn.Module:
    """Return the model, the same every time."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    model = smp.Unet("resnet18", encoder_weights=None, in_channels=BANDS, classes=CLASSES).eval().requires_grad_(False)
    with torch.inference_mode():
        head = model.segmentation_head[0]
        noise = torch.nn.functional.interpolate(torch.randn(4, BANDS, 32, 32), scale_factor=8, mode="bilinear")
        said = model(noise)
        spread, middle = said.std((0, 2, 3)), said.mean((0, 2, 3))
        head.weight.div_(spread[:, None, None, None])
        head.bias.sub_(middle).div_(spread)
    return model


class Timed(torch.nn.Module):
    """Counts the seconds that are spent in a model."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model, self.seconds = model, 0.0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.counting(self.model)(image)

    def counting(self, call):
        """Return a function that counts, too."""

        def counted(given):
            start = time.perf_counter()
            said = call(given)
            self.seconds += time.perf_counter() - start
            return said

        return counted


def cosine(side: int) -> torch.Tensor:
    """Weights of a chip for blending."""
    line = torch.sin((torch.arange(side) + 0.5) * (torch.pi / side)) ** 2
    return line[:, None] * line[None, :]


def hand_loop(image: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """What most repositories do: full accumulators, half overlap, cosine weights."""
    side, chip, batch = image.shape[-1], 256, 16
    total, weight, window = torch.zeros(CLASSES, side, side), torch.zeros(1, side, side), cosine(chip) + 1e-6
    starts = range(0, side - chip + 1, chip // 2)
    places = [(y, x) for y in starts for x in starts]
    for k in range(0, len(places), batch):
        part = places[k : k + batch]
        said = model(torch.stack([image[:, y : y + chip, x : x + chip] for y, x in part]))
        for (y, x), one in zip(part, said, strict=True):
            total[:, y : y + chip, x : x + chip] += one * window
            weight[:, y : y + chip, x : x + chip] += window
    return (total / weight).argmax(0).to(torch.uint8)


def terratorch_tiled(image: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """terratorch's own."""
    from terratorch.tasks.tiled_inference import tiled_inference

    said = tiled_inference(model, image[None], crop=256, stride=128, delta=8, batch_size=16)[0]
    return said.argmax(0).to(torch.uint8)


def geomm_parts(folder: Path, side: int, model: torch.nn.Module):
    """Return a cube of the scene, the predictor and its settings."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    import geomm
    from geomm.prediction import PredictSettings, predictor_of_module
    from geomm.transforms import Normaliser
    from geomm.types import ClassSpec

    sys.path.insert(0, str(Path(__file__).parent))
    import chips

    grid = GeoBox((side, side), Affine(10, 0, chips.LEFT, 0, -10, chips.TOP), "EPSG:32632")
    scenes = geomm.open_catalog(folder / "catalog").search(sentinel2_offset=0)
    sensors = {"optical": "sentinel2-l1c", "sar": "sentinel1-rtc", "thermal": "landsat-tirs-l1"}
    cube = geomm.load_cube(scenes, grid, {n: geomm.Modality(s, chips.SENSORS[s]) for n, s in sensors.items()})
    size, halo = int(os.environ.get("SIZE", "992")), int(os.environ.get("HALO", "64"))
    settings = PredictSettings(size, halo, size, 1, layers=("class",))
    classes = tuple(ClassSpec(k, f"class {k}", "#336699") for k in range(CLASSES))
    plain = model.model if isinstance(model, Timed) else model
    predictor = predictor_of_module(plain, list(sensors), classes, settings, normaliser=Normaliser(MEAN, STD))
    if not isinstance(model, Timed):
        return cube, predictor, settings
    return cube, replace(predictor, scores=model.counting(predictor.scores)), settings


def geomm_map(folder: Path, side: int, model: torch.nn.Module) -> np.ndarray:
    """From files to a class map in memory."""
    from geomm.prediction import predict_blocks

    out = np.zeros((side, side), np.uint8)
    for window, prediction in predict_blocks(*geomm_parts(folder, side, model)):
        out[window.slices] = prediction.arrays["class"][0]
    return out


def geomm_cog(folder: Path, side: int, model: torch.nn.Module) -> np.ndarray | None:
    """From files to a published product."""
    import datetime as dt

    from geomm.cube import geobox_of
    from geomm.export import Provenance, write_products
    from geomm.prediction import predict_blocks

    cube, predictor, settings = geomm_parts(folder, side, model)
    blocks = predict_blocks(cube, predictor, settings)
    write_products(
        blocks, geobox_of(cube), folder / "maps", name="map", source=Provenance(dt.datetime(2023, 6, 1, tzinfo=dt.UTC))
    )


def forward(model: torch.nn.Module) -> float:
    """Megapixels a second of the bare model in the precision that geomm chooses, at its chip size."""
    from geomm.prediction.device import arithmetic

    side = int(os.environ.get("SIZE", "992")) + 2 * int(os.environ.get("HALO", "64"))
    model = model.to(memory_format=torch.channels_last)
    image = torch.randn(1, BANDS, side, side).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), arithmetic("auto", "cpu"):
        model(image)
        start = time.perf_counter()
        for _ in range(5):
            model(image)
        return 5 * side * side / 1e6 / (time.perf_counter() - start)


class Peak(threading.Thread):
    """The largest resident size while it runs, in MiB beyond that at the start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.base, self.most, self.over = self._now(), 0.0, threading.Event()

    @staticmethod
    def _now() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def run(self) -> None:
        while not self.over.wait(0.02):
            self.most = max(self.most, self._now() - self.base)


def one(name: str, folder: Path, side: int, whole: str) -> None:
    """Run a case in this process and print its figures."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    if name == "forward":
        print("RESULT " + json.dumps({"rate": forward(network())}))
        return
    model = Timed(network())
    peer = {"hand_loop": hand_loop, "terratorch": terratorch_tiled}.get(name)
    if peer is not None:
        image = torch.from_numpy(np.load(folder / "image.npy", mmap_mode="r")[:, :side, :side].copy())
        if name == "terratorch":
            import_module("terratorch.tasks.tiled_inference")
    else:
        import_module("geomm.export")
        import_module("geomm.prediction")
        if side > 1024:  # kernels are loaded, files are in the page cache
            geomm_case(name)(folder, 1024, model)
    with torch.inference_mode():
        model(torch.zeros(1, BANDS, 256, 256))
    model.seconds = 0.0
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    with torch.inference_mode():
        out = peer(image, model) if peer is not None else geomm_case(name)(folder, side, model)
    seconds = time.perf_counter() - start
    peak.over.set()
    peak.join()
    result = {"rate": side * side / 1e6 / seconds, "model": model.seconds / seconds, "peak": peak.most}
    if whole:
        truth = np.load(whole)
        inner = np.s_[64:-64, 64:-64]
        result["agreement"] = float((np.asarray(out)[inner] == truth[inner]).mean())
    print("RESULT " + json.dumps(result))


def geomm_case(name: str):
    """Return a case of ours."""
    return {"geomm": geomm_map, "geomm_cog": geomm_cog}[name]


def prepare(folder: Path) -> None:
    """Write the scene, the normalised image for peers, and the classes of one pass over its part."""
    sys.path.insert(0, str(Path(__file__).parent))
    import chips

    import geomm as package
    from geomm.dataset import to_sample

    warnings.simplefilter("ignore")
    chips.SIDE = SIDE
    chips.write_scenes(folder)
    package.build_catalog(folder, folder / "catalog", sensors=tuple(chips.SENSORS), datetime="2023-06-01")
    cube = geomm_parts(folder, SIDE, network())[0]
    from geomm.chipping import ChipReader
    from geomm.chips import Chip
    from geomm.transforms import Normaliser
    from geomm.types import Window

    window = Window(0, 0, SIDE, SIDE)
    reader = ChipReader(cube, [Chip(0, window, window)], list(MEAN))
    ready = Normaliser(MEAN, STD)(to_sample(reader.read([0])))
    image = torch.cat([ready.images[n][0].flatten(0, 1) for n in MEAN])
    np.save(folder / "image.npy", image.numpy())
    with torch.inference_mode():
        said = network()(image[None, :, :CHECK, :CHECK])[0]
    np.save(folder / "whole.npy", said.argmax(0).to(torch.uint8).numpy())


def measure(name: str, folder: Path, side: int, whole: str = "") -> dict:
    """Run a case in a process of its own."""
    python = os.environ["TERRATORCH_PYTHON"] if name == "terratorch" else sys.executable
    command = [python, __file__, name, str(folder), str(side), whole]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(f"{name}: {run.stderr[-1500:]}")
    return json.loads(lines[0][7:])


def main() -> None:
    """Print every case and the ratios between them."""
    cases = [c for c in ("hand_loop", "terratorch") if c != "terratorch" or "TERRATORCH_PYTHON" in os.environ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subprocess.run([sys.executable, __file__, str(folder)], check=True)
        found: dict[str, list[dict]] = {}
        for _ in range(ROUNDS):
            for name in ("forward", "geomm", "geomm_cog", *cases):
                found.setdefault(name, []).append(measure(name, folder, SIDE))
        agreement = {n: measure(n, folder, CHECK, str(folder / "whole.npy"))["agreement"] for n in ("geomm", *cases)}
    rate = {n: statistics.median(r["rate"] for r in runs) for n, runs in found.items()}
    print(f"{SIDE} x {SIDE} pixels, {BANDS} bands; agreement on {CHECK} x {CHECK}; medians of {ROUNDS}")
    for name, runs in found.items():
        about = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
        extra = (
            [f"in the model {about['model']:.0%}", f"{about['peak']:.0f} MiB above start"] if "model" in about else []
        )
        extra += [f"agreement {agreement[name]:.3f}"] if name in agreement else []
        print(f"  {name:12} {rate[name]:6.3f} Mpx/s  {', '.join(extra)}")
    for name in cases:
        print(f"  geomm against {name:12} {rate['geomm'] / rate[name]:6.2f}")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        prepare(Path(sys.argv[1]))
    elif len(sys.argv) > 2:
        one(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "")
    else:
        main()
