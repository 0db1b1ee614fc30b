"""What only a GPU can show: towers that learn what is between them, mixed precision, and how busy the device is.

    python benchmarks/gpu/checks.py            # on a GPU; about 20 minutes on one H100
    python benchmarks/gpu/checks.py --dry-run  # the same code on the CPU, small, to see that it runs

1. XOR-flood at 256 x 256 pixels with two ViT-S/16 towers: share of the Bayes gain (wanted: 0.99 in 10 minutes).
2. The same small task in bf16 and in fp32: gap of the accuracy (wanted: at most 0.3 points).
3. Model FLOPs utilisation of two ViT-B/16 towers in training: 6 x parameters of a tower x its tokens, for both towers,
   over the time of a step and the peak of the device for dense bf16 (wanted: 0.30). Attention's own products and
   everything after the towers are not counted, so the figure is a low one.
4. A dual encoder of three sensors that were never at one place, in bf16: how often a chip finds its own description
   (wanted: 0.95), and that vectors are those of the CPU.
5. A masked modality equals an absent one bit for bit, and a batch gives the same numbers as on the CPU.
6. A scene of 13 bands through smp's Unet with a ResNet-18: pixels a second of the whole prediction against those of the
   bare bf16 forward pass on chips that are there already (wanted: 0.90), and the classes against the CPU's (0.999).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from geomm.dataset import Sample
from geomm.metrics import recall_at_k, same_text
from geomm.models.fusion import FUSIONS
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.tasks import get_task
from geomm.testing.attributes import BANDS, Unpaired, World
from geomm.testing.known import Gaussian, Speckle, Xor
from geomm.train import TrainData, TrainSettings
from geomm.train.evaluate import without
from geomm.train.fit import fit
from geomm.transforms import Normaliser
from geomm.types import ClassSpec

CLASSES = (ClassSpec(0, "dry", "#888888"), ClassSpec(1, "flooded", "#1f78b4"))
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12}
"""Dense bf16 operations per second, from the vendor's data sheets (without sparsity)."""
# A parcel is a patch of a tower; the contrasts are such that it says as much as 4 x 4 pixels of the usual setting.
LARGE = Xor({"sar": Speckle(4.4, 0.5), "optical": Gaussian(0.235)}, grid=16, parcel=16)
SMALL = Xor({"sar": Speckle(4.4, 2.0), "optical": Gaussian(0.94)}, grid=4, parcel=4)


@dataclass(frozen=True)
class OnDevice:
    """Fresh batches, drawn where they are used."""

    task: Xor
    size: int
    batches: int
    device: torch.device

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Sample]:  # noqa: ARG002
        generator = torch.Generator(self.device).manual_seed(number * 4_099 + rank)
        for _ in range(self.batches):
            yield self.draw(generator)

    def draw(self, generator: torch.Generator) -> Sample:
        """Draw a batch; the same distribution as :meth:`Xor.draw`."""
        grid, side = self.task.grid, self.task.side
        bits = torch.randint(0, 2, (2, self.size, grid, grid), generator=generator, device=self.device)
        pixels = bits.repeat_interleave(self.task.parcel, -2).repeat_interleave(self.task.parcel, -1)
        sar, optical = self.task.views["sar"], self.task.views["optical"]
        assert isinstance(sar, Speckle)
        assert isinstance(optical, Gaussian)
        mean = torch.where(pixels[0] == 1, sar.ratio, 1.0) / sar.looks
        shape = torch.full(mean.shape, sar.looks, device=self.device)
        intensity = torch._standard_gamma(shape, generator=generator) * mean  # noqa: SLF001 - takes a generator
        noise = torch.randn(mean.shape, generator=generator, device=self.device)
        images = {
            "sar": (10 * intensity.clamp_min(1e-6).log10())[:, None, None],
            "optical": ((pixels[1] - 0.5) * optical.signal + noise)[:, None, None],
        }
        plain = torch.tensor([1.0, 0.0, float("nan"), float("nan")], device=self.device).expand(self.size, 1, 1, 4)
        everywhere = torch.ones(self.size, 1, side, side, dtype=torch.bool, device=self.device)
        here = torch.ones(self.size, dtype=torch.bool, device=self.device)
        names = tuple(images)
        return Sample(
            images,
            dict.fromkeys(names, everywhere),
            dict.fromkeys(names, plain),
            dict.fromkeys(names, here),
            pixels[0] ^ pixels[1],
        )


@torch.inference_mode()
def share(model: MultimodalModel, data: OnDevice, normaliser: Normaliser) -> float:
    """Return the share of the Bayes gain on fresh batches."""
    right = total = 0
    model = model.to(data.device).eval()
    for batch in data.epoch(10**6):
        said = model(normaliser(batch)).argmax(1)
        assert batch.target is not None
        right, total = right + int((said == batch.target).sum()), total + said.numel()
    return (right / total - 0.5) / (data.task.bayes - 0.5)


def learn(data: OnDevice, encoder: str, fusion: str, settings: TrainSettings, test: OnDevice) -> tuple[float, float]:
    """Train and return the share of the gain and the seconds it took."""
    normaliser = Normaliser.fit(s.to("cpu") for s in OnDevice(data.task, 8, 4, data.device).epoch(0))
    spec = ModelSpec({"sar": 1, "optical": 1}, 2, encoder=encoder, fusion=fusion)
    start = time.monotonic()
    fitted = fit(spec, get_task("segmentation", CLASSES), TrainData(data, normaliser), settings=settings)
    took = time.monotonic() - start
    return share(fitted.model, test, normaliser), took


def utilisation(encoder: str, size: int, side: int, device: torch.device, *, steps: int) -> float:
    """Time training steps of two towers; return the share of the peak that they use, NaN where it is not known."""
    model = MultimodalModel(ModelSpec({"sar": 2, "optical": 12}, 2, "classification", encoder, "concat")).to(device)
    images = {"sar": 2, "optical": 12}
    everywhere = torch.ones(size, 1, side, side, dtype=torch.bool, device=device)
    here = torch.ones(size, dtype=torch.bool, device=device)
    batch = Sample(
        {n: torch.randn(size, 1, bands, side, side, device=device) for n, bands in images.items()},
        dict.fromkeys(images, everywhere),
        {},
        dict.fromkeys(images, here),
        torch.zeros(size, side, side, dtype=torch.long, device=device),
    )
    task, optimiser = get_task("classification", CLASSES), torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
    weights = sum(p.numel() for p in model.encoders.parameters())
    tokens = size * (side // model.encoders["sar"].strides[0]) ** 2

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            loss = task.losses(model, batch).mean()
        loss.backward()
        optimiser.step()

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        step()
    finish()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    finish()
    took = (time.perf_counter() - start) / steps
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    peak = next((v for k, v in PEAK.items() if k in name), None)
    used = 6 * weights * tokens / took / peak if peak else float("nan")
    known = f"{used:.3f} of {peak / 1e12:.0f} TFLOP/s" if peak else "peak of this device unknown"
    print(
        f"MFU: {weights / 1e6:.0f} M parameters, {tokens:,} tokens a tower, {took * 1e3:.0f} ms a step: {known}",
        flush=True,
    )
    return used


def same_everywhere(device: torch.device) -> None:
    """Check bits of missing modalities and the numbers of the CPU, for every fusion."""
    for name, kind in FUSIONS.items():
        torch.manual_seed(0)
        model = MultimodalModel(ModelSpec({"sar": 1, "optical": 1}, 2, fusion=name)).eval()
        batch = OnDevice(SMALL, 8, 1, torch.device("cpu")).draw(torch.Generator().manual_seed(0))
        with torch.inference_mode():
            plain = model(batch)
            there, moved = model.to(device), batch.to(device)
            torch.testing.assert_close(there(moved).cpu(), plain, rtol=2e-3, atol=2e-3)
            masked = without(moved, ("optical",))
            parts = ({n: p[n] for n in ("optical",)} for p in (moved.images, moved.valid))
            absent = Sample(*parts, {}, moved.present)
            assert torch.equal(there(masked), there(absent)), f"{kind.stage} {name}"
    print(f"all {len(FUSIONS)} fusions: masked equals absent bit for bit, numbers are those of the CPU", flush=True)


def words(device: torch.device, steps: int) -> float:
    """Train on scenes that one sensor alone saw; return how often the worst sensor finds the words of a scene."""
    batches = Unpaired(64)
    normaliser = Normaliser.fit(batches.batch(10**6 + k) for k in range(4))
    spec = ModelSpec(dict(BANDS), 64, "contrastive", fusion="sum", width=16, text="tiny")
    where = "cpu" if device.type == "cpu" else "gpu"
    settings = TrainSettings(steps, 4e-3, precision="bf16-mixed", accelerator=where)
    fitted = fit(spec, get_task("contrastive"), TrainData(batches, normaliser), settings=settings)
    test = World().draw(300, np.random.default_rng(99))
    alike, shares = same_text(test.texts, test.texts), []
    with torch.inference_mode():
        texts = fitted.model.encode_text(test.texts).numpy()
        for name in BANDS:
            batch = normaliser(test.seen_by([name]))
            vectors = fitted.model.cpu().embed(batch)
            torch.testing.assert_close(
                fitted.model.to(device).embed(batch.to(device)).cpu(), vectors, rtol=2e-3, atol=2e-3
            )
            shares.append(recall_at_k(vectors.numpy() @ texts.T, alike, 1))
    print(f"words: {', '.join(f'{n} {s:.3f}' for n, s in zip(BANDS, shares, strict=True))}", flush=True)
    return min(shares)


def mapping(device: torch.device, side: int, size: int, batch: int) -> tuple[float, float]:
    """Map a scene in memory; return the share of the bare forward pass, and of classes as on the CPU in fp32."""
    import segmentation_models_pytorch as smp
    import xarray as xr
    from affine import Affine
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_coords

    from geomm.prediction import PredictSettings, predict_blocks, predictor_of_module

    torch.manual_seed(0)
    network = smp.Unet("resnet18", encoder_weights=None, in_channels=13, classes=10).eval()
    grid = GeoBox((side, side), Affine(10, 0, 5e5, 0, -10, 4e6), "EPSG:32632")
    values = np.random.default_rng(0).integers(1, 10_000, (1, 13, side, side), dtype=np.uint16)
    table = {"scale": 1e-4, "offset": 0.0, "k1": np.nan, "k2": np.nan}
    node = xr.Dataset(
        {
            "data": (("time", "band", "y", "x"), values),
            "valid": (("time", "y", "x"), np.ones((1, side, side), bool)),
        },
        coords={"time": np.array(["2020-06-01"], "datetime64[ns]"), "band": [f"b{k}" for k in range(13)]}
        | {k: (("time", "band"), np.full((1, 13), v)) for k, v in table.items()},
    )
    cube = xr.DataTree.from_dict({"/": xr.Dataset(coords=xr_coords(grid)), "/m": node})
    classes = tuple(ClassSpec(k, f"class {k}", "#336699") for k in range(10))

    def run(where: str, precision: str, area: xr.DataTree) -> tuple[np.ndarray, float]:
        chosen = PredictSettings(size, 64, 4 * size, batch, device=where, precision=precision, layers=("class",))
        predictor = predictor_of_module(network, ["m"], classes, chosen)
        shape = area["m"]["valid"].shape[1:]
        out, start = np.zeros(shape, np.uint8), time.perf_counter()
        for window, prediction in predict_blocks(area, predictor, chosen):
            out[window.slices] = prediction.arrays["class"][0]
        return out, time.perf_counter() - start

    name = str(device)
    run(name, "bf16", cube.isel(y=slice(0, 2 * size), x=slice(0, 2 * size)))
    found, took = run(name, "bf16", cube)
    read = size + 128
    model = network.to(device, memory_format=torch.channels_last)
    chips = torch.rand(batch, 13, read, read, device=device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
        for _ in range(3):
            model(chips)
        start, rounds = time.perf_counter(), max(-(-((side // size) ** 2) // batch), 1)
        for _ in range(rounds):
            model(chips)
        if device.type == "cuda":
            torch.cuda.synchronize()
    bare = (time.perf_counter() - start) / rounds / batch * (side // size) ** 2
    corner = cube.isel(y=slice(0, 2 * size), x=slice(0, 2 * size))
    there, here = (run(where, "fp32", corner)[0] for where in (name, "cpu"))
    same = float((there == here).mean())
    print(
        f"mapping {side} x {side}: {side * side / 1e6 / took:.1f} Mpx/s, {bare / took:.2f} of the bare forward pass; "
        f"classes as on the CPU {same:.4f}; classes seen {len(np.unique(found))}",
        flush=True,
    )
    return bare / took, same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="small, on the CPU")
    dry = parser.parse_args().dry_run
    device = torch.device("cpu" if dry else "cuda")
    print(f"device: {'cpu, dry run' if dry else torch.cuda.get_device_name()}; torch {torch.__version__}", flush=True)
    same_everywhere(device)
    told = words(device, 4 if dry else 400)
    speed, same = mapping(device, *((256, 128, 2) if dry else (16384, 512, 32)))
    where = "cpu" if dry else "gpu"
    steps, size = (4, 4) if dry else (600, 256)
    accuracies = []
    for precision in ("32-true", "bf16-mixed"):
        data = OnDevice(SMALL, size, 50, device)
        settings = TrainSettings(steps, 6e-3, precision=precision, augment=False, accelerator=where)
        found, took = learn(data, "tiny_cnn", "attention", settings, OnDevice(SMALL, size, 2 if dry else 80, device))
        accuracies.append(0.5 + found * (SMALL.bayes - 0.5))
        print(f"XOR-flood at 16 x 16, {precision}: accuracy {accuracies[-1]:.4f}, {took:.0f} s", flush=True)
    large = Xor(LARGE.views, 2, 16) if dry else LARGE
    steps, size = (2, 2) if dry else (3000, 64)
    data = OnDevice(large, size, 100, device)
    settings = TrainSettings(
        steps,
        5e-4,
        schedule="cosine",
        warmup=0 if dry else 200,
        precision="bf16-mixed",
        augment=False,
        accelerator=where,
    )
    encoder = "tiny_vit" if dry else "torchgeo:vit_small_patch16_224"
    found, took = learn(data, encoder, "attention", settings, OnDevice(large, size, 2 if dry else 40, device))
    print(f"XOR-flood at {large.side} x {large.side}, two {encoder}: {found:.3f} of the gain, {took:.0f} s", flush=True)
    towers = "tiny_vit" if dry else "torchgeo:vit_base_patch16_224"
    used = utilisation(towers, 2 if dry else 128, 32 if dry else 224, device, steps=2 if dry else 20)
    wanted = {
        "bf16 within 0.3 points of fp32": abs(accuracies[0] - accuracies[1]) <= 0.003,
        "0.99 of the gain at 256 x 256 in 10 minutes": found >= 0.99 and took <= 600,
        "MFU of 0.30": used >= 0.30,
        "0.95 of the descriptions found": told >= 0.95,
        "0.90 of the bare forward pass": speed >= 0.90,
        "0.999 of the classes as on the CPU": same >= 0.999,
    }
    missed = [name for name, met in wanted.items() if not met]
    print("dry run: nothing is judged" if dry else f"missed: {', '.join(missed) or 'nothing'}", flush=True)
    return int(bool(missed) and not dry)


if __name__ == "__main__":
    sys.exit(main())
