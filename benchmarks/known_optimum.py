"""How much of what can be had does each fusion have? Tasks with a known best answer, generated on the fly.

    python benchmarks/known_optimum.py xor        # XOR-flood: fusions of every stage, and each modality alone
    python benchmarks/known_optimum.py diurnal    # the same with thermal imagery by day and night
    python benchmarks/known_optimum.py subsets    # one model, every subset of three modalities
    python benchmarks/known_optimum.py late       # the control: here late fusion is best
    python benchmarks/known_optimum.py leakage    # random and blocked estimates against the truth

XOR-flood: a parcel is flooded if it is bright in radar exactly where it is not green. Why a late fusion gains at most
half of what can be gained: let f and g be what the modalities say by themselves, D = sign(f + g) the decision and s_a,
s_b = tanh(evidence / 2). The gain over a coin is E[D s_a s_b] / 2. For a fixed radar image, D = 1 where g > -f; with
h(t) = E[(2 [g > t] - 1) s_b] and E s_b = 0, h(t) - h(u) = 2 E[s_b (t < g <= u)] is at most E|s_b| in size. So
E[s_a h(-f)] <= E[s_a+] sup h - E[s_a-] inf h <= E|s_a| E|s_b| / 2: half of E|s_a| E|s_b|, which is what can be gained.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from geomm.chips import SpatialSplit
from geomm.metrics import Reliability, accuracy, block_bootstrap, confusion
from geomm.models.fusion import find_fusion
from geomm.models.multimodal import ModelSpec
from geomm.tasks import get_task
from geomm.testing.fresh import FreshBatches, sample_of
from geomm.testing.known import DIURNAL, XOR_FLOOD, Drawn, Views, Xor, leakage_field
from geomm.train import Fitted, TrainData, TrainSettings
from geomm.train.evaluate import subsets, without
from geomm.train.fit import fit
from geomm.transforms import Normaliser
from geomm.types import ClassSpec

CLASSES = (ClassSpec(0, "no", "#888888"), ClassSpec(1, "yes", "#1f78b4"))
MUST = ("concat", "lmf", "tfn", "co_attention", "mbt", "joint", "perceiver")
OTHERS = ("early_concat", "early_sum", "early_product", "sum", "attention")
LATE = ("late_mean", "late_probability", "late_vote", "late_weighted", "late_product")
XOR_STEPS, VIEW_STEPS, RATE, BATCH = 250, 800, 6e-3, 64


def train(task: Xor | Views, fusion: str, seed: int, *, only: tuple[str, ...] = (), dropout: float = 0.0) -> Fitted:
    """Train a fusion in its default configuration."""
    fresh = FreshBatches(task, BATCH, seed, only=only)
    normaliser = Normaliser.fit(fresh.epoch(0))
    spec = ModelSpec(dict.fromkeys(normaliser.mean, 1), 2, fusion=fusion)
    steps = XOR_STEPS if isinstance(task, Xor) else VIEW_STEPS
    settings = TrainSettings(steps, RATE, modality_dropout=dropout, augment=False, accelerator="cpu")
    return fit(spec, get_task("segmentation", CLASSES), TrainData(fresh, normaliser), settings=settings, seed=seed)


@torch.inference_mode()
def judge(fitted: Fitted, drawn: Drawn, only: tuple[str, ...] = ()) -> tuple[float, float, Reliability]:
    """Return accuracy, excess cross-entropy over the posterior in nats, and calibration."""
    parts = []
    for start in range(0, len(drawn.target), 500):
        part = slice(start, start + 500)
        images = {n: a[part] for n, a in drawn.images.items() if n in fitted.normaliser.mean}
        ready = fitted.normaliser(sample_of(Drawn(images, drawn.target[part], drawn.posterior[part])))
        parts.append(fitted.model(without(ready, only) if only else ready).double().softmax(1))
    chances, target = torch.cat(parts).movedim(1, -1).reshape(-1, 2).numpy(), drawn.target.ravel()
    found = Reliability.of(chances, target)
    best = drawn.posterior.ravel()
    floor = -np.log(np.where(target == 1, best, 1 - best)).mean()
    return float((chances.argmax(1) == target).mean()), found.log_loss / found.number - float(floor), found


def exclusive(task: Xor, seeds: list[int], fusions: tuple[str, ...]) -> list[dict[str, object]]:
    """Every fusion, and every modality alone, on an exclusive or."""
    drawn = task.draw(4000, np.random.default_rng(10**6))
    print(f"best possible {task.bayes:.4f}, any additive rule at most {task.additive:.4f}")
    print(f"{'':18} seed  accuracy  share of the gain  excess nats  seconds")
    rows = []
    for name, only in [*((f, ()) for f in fusions), *((n, (n,)) for n in task.views)]:
        for seed in seeds:
            start = time.monotonic()
            fitted = train(task, "concat" if only else name, seed, only=only)
            took = time.monotonic() - start
            right, excess, _ = judge(fitted, drawn)
            share = (right - 0.5) / (task.bayes - 0.5)
            print(f"{name:18} {seed:4} {right:9.4f} {share:18.3f} {excess:12.4f} {took:8.0f}", flush=True)
            row = {"row": name, "seed": seed, "accuracy": right, "share": share, "excess": excess, "seconds": took}
            rows.append(row | {"stage": "alone" if only else find_fusion(name).stage})
    return rows


def subset_curve(seeds: list[int], fusions: tuple[str, ...]) -> list[dict[str, object]]:
    """One model for every subset of the modalities, and the same without having learned to miss any."""
    task, rows = Views(), []
    drawn = task.draw(100_000, np.random.default_rng(10**6))
    for fusion in fusions:
        for seed in seeds:
            for dropout in (0.4, 0.0):
                fitted = train(task, fusion, seed, dropout=dropout)
                print(f"{fusion}, seed {seed}, modality dropout {dropout}")
                for only in subsets(list(task.signals)):
                    right, _, found = judge(fitted, drawn, only)
                    best = task.bayes(only)
                    print(
                        f"  {' + '.join(only):16} best {best:.4f}  found {right:.4f}  ECE {found.ece():.4f}", flush=True
                    )
                    row = {"row": fusion, "seed": seed, "dropout": dropout, "subset": only}
                    rows.append(row | {"best": best, "accuracy": right, "ece": found.ece()})
    return rows


def late_control(seeds: list[int], fusions: tuple[str, ...]) -> list[dict[str, object]]:
    """Independent views, an unbalanced prior: a product of experts is right, a plain mean counts the prior twice."""
    task, rows = Views(prior=0.8), []
    drawn, best = task.draw(20_000, np.random.default_rng(10**6)), task.bayes(tuple(task.signals))
    print(f"best possible {best:.4f}")
    for fusion in fusions:
        for seed in seeds:
            right, excess, found = judge(train(task, fusion, seed), drawn)
            print(
                f"{fusion:18} {seed:4} accuracy {right:.4f}  excess {excess:.4f} nats  ECE {found.ece():.4f}",
                flush=True,
            )
            rows.append({"row": fusion, "seed": seed, "accuracy": right, "excess": excess, "ece": found.ece()})
    return rows


def leakage(repeats: int) -> list[dict[str, object]]:
    """Random and blocked estimates of a nearest-neighbour classifier against what it does in fresh places."""
    side, reach, covariates, block, buffer, cells = 512, 4.0, 12, 64, 16, 30_000

    def learned(known: np.ndarray, labels: np.ndarray, asked: np.ndarray) -> np.ndarray:
        _, near = cKDTree(known).query(asked, 5)
        return (labels[near].mean(1) > 0.5).astype(np.int64)

    def once(seed: int) -> dict[str, object]:
        generator = np.random.default_rng(seed)
        field, labels = (a.reshape(side * side, -1) for a in leakage_field(side, reach, covariates, generator))
        labels = labels[:, 0]
        mine = generator.permutation(side * side)[:cells]
        first, rest = np.split(mine, [int(0.8 * cells)])
        random = float((learned(field[first], labels[first], field[rest]) == labels[rest]).mean())
        counts = []
        for split in SpatialSplit.folds((side, side), 5, block=block, buffer=buffer, seed=seed):
            known, asked = (mine[split.mask(n).ravel()[mine]] for n in ("train", "test"))
            said = learned(field[known], labels[known], field[asked])
            place = asked // side // block * side + asked % side // block
            counts += [confusion(labels[asked][place == p], said[place == p], 2) for p in np.unique(place)]
        blocked = block_bootstrap(np.stack(counts), statistic=accuracy)
        fresh = []
        for _ in range(10):
            there, truth = leakage_field(side, reach, covariates, generator)
            asked = generator.permutation(side * side)[:2000]
            said = learned(field[mine], labels[mine], there.reshape(-1, covariates)[asked])
            fresh.append(float((said == truth.ravel()[asked]).mean()))
        found = {"truth": float(np.mean(fresh)), "random": random, "blocked": blocked.value}
        print(f"{seed:3}  truth {found['truth']:.3f}  random {random:.3f}  blocked {blocked}", flush=True)
        return found | {"low": blocked.low, "high": blocked.high}

    rows = [once(seed) for seed in range(repeats)]
    truth, random, blocked, low, high = (
        np.array([r[k] for r in rows]) for k in ("truth", "random", "blocked", "low", "high")
    )
    covered = float(((low <= truth) & (truth <= high)).mean())
    print(f"random overstates by {(random - truth).mean():.3f} (least {(random - truth).min():.3f})")
    print(f"blocked is off by {(blocked - truth).mean():+.3f} on average, {np.abs(blocked - truth).mean():.3f} in size")
    print(f"its 95 % interval covers the truth in {covered:.0%} of {repeats} repeats")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("xor", "diurnal", "subsets", "late", "leakage"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--fusions", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--json", type=Path, help="file for the figures")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    chosen = tuple(asked.fusions)
    runs: Mapping[str, object] = {
        "xor": lambda: exclusive(XOR_FLOOD, asked.seeds, chosen or (*MUST, *OTHERS, *LATE)),
        "diurnal": lambda: exclusive(DIURNAL, asked.seeds, chosen or ("concat", "attention", "late_mean")),
        "subsets": lambda: subset_curve(asked.seeds, chosen or ("concat", "attention")),
        "late": lambda: late_control(asked.seeds, chosen or (*LATE, "concat", "attention")),
        "leakage": lambda: leakage(asked.repeats),
    }
    rows = runs[asked.task]()
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    sys.exit(main())
