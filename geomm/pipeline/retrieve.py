"""A recipe of the contrastive task, from the catalog to answers: train, judge, index, ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm._version import __version__
from geomm.config import RunConfig
from geomm.errors import ConfigError, OutputError
from geomm.metrics import Interval, Ranked, rank_rows, ranking_bootstrap, same_text
from geomm.pipeline.compare import fit_everywhere
from geomm.pipeline.grounding import slug
from geomm.pipeline.indexing import claim
from geomm.pipeline.learn import Variant, check, test_chips, train_one
from geomm.pipeline.recipe import contract_of
from geomm.pipeline.searching import Question, ask, leave
from geomm.pipeline.sites import Site, load_sites, make_folds
from geomm.pipeline.texts import derived, teller_of, text_identity
from geomm.retrieval import Index
from geomm.retrieval.build import FUSED, IndexSettings, JobNotes, index_cube
from geomm.retrieval.embedder import Embedder
from geomm.types import Progress, Window, silent

if TYPE_CHECKING:
    from geomm.batches import ChipBatches
    from geomm.dataset import Sample
    from geomm.package import ModelPackage
    from geomm.train import Fitted

TEXT = "text"
"""Name of the words among the sides that are compared."""


@dataclass(frozen=True, slots=True)
class Direction:
    """How well one side finds another, over all folds and seeds."""

    name: str
    """Such as ``text -> fused``."""
    ranked: tuple[Ranked, ...]
    """One for every fold and seed."""
    recall: Mapping[int, Interval]
    """R@k where rows of the same text count as well, with an interval over places and seeds."""

    def facts(self) -> dict[str, Any]:
        """Return JSON types."""
        recall = {str(k): [v.value, v.low, v.high] for k, v in self.recall.items()}
        return {"name": self.name, "recall_same_text": recall, "runs": [r.facts() for r in self.ranked]}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a run left behind."""

    package: Path
    """Folder of the model."""
    index: Path
    """Folder of the index."""
    directions: tuple[Direction, ...]
    """How well it finds, on test chips."""
    answers: Mapping[str, Path]
    """Query to the page that answers it."""
    tables: Mapping[str, Any]
    """Query to its hits."""


def run_search(config: RunConfig, out: str | Path, *, progress: Progress = silent) -> SearchResult:
    """Run a recipe: train a dual encoder, judge it on chips that it never saw, index everything, answer its queries.

    Args:
        config: a recipe of the contrastive task.
        out: folder that does not exist, or is empty: the model, the index, and for each query a page and a GeoJSON.
        progress: told how far it is.

    Raises:
        OutputError: the folder holds something.
        GeommError: any of the steps.
    """
    from geomm.package import save_package

    check(config, tasks=("contrastive",))
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError("the folder holds something", where=str(out), fix="name another, or remove this one")
    sites = load_sites(config, target)
    folds = make_folds(config, sites)
    variant, found, fitted = Variant(tuple(config.modalities), config.model.fusion), [], None
    for f, fold in enumerate(folds):
        for s, seed in enumerate(config.train.seeds):
            done = (f * len(config.train.seeds) + s) * config.train.steps

            def told(step: int, _loss: float, done: int = done) -> None:
                progress("train", done + step, len(folds) * len(config.train.seeds) * config.train.steps)

            model = train_one(config, sites, fold, variant, seed=seed, on_step=told)
            found.append(sides_of(model, test_chips(config, sites, fold, variant.modalities), config))
            fitted = fitted or model
    if len(folds) > 1:
        fitted = fit_everywhere(config, sites, progress)
    assert fitted is not None
    directions = judge(found, len(config.train.seeds))
    metrics = {d.name: {f"R@{k}": str(v) for k, v in d.recall.items()} for d in directions}
    package = save_package(
        fitted,
        contract_of(config, sites),
        target / "model",
        name=config.name,
        metrics={
            "test recall, same text counts": metrics,
            "captions": "derived, not written by people" if derived(config) else "written by people",
        },
    )
    index = _index(config, sites, package, fitted, target / "index", progress)
    answers, tables = {}, {}
    for words in config.queries:
        question = Question(words, k=min(10, len(index)))
        page, hits = target / "answers" / f"{slug(words)}.html", ask(index, question)
        leave(index, question, hits, page, [page.with_suffix(".geojson")])
        answers[words], tables[words] = page, hits
    facts = {"geomm": __version__, "recipe": config.name, "derived_captions": derived(config)}
    facts |= {"directions": [d.facts() for d in directions], "chips": len(index)}
    (target / "search.json").write_text(json.dumps(facts, indent=2))
    return SearchResult(package.path, target / "index", directions, answers, tables)


@dataclass(frozen=True, slots=True)
class Sides:
    """Test chips of a fold, as every side sees them."""

    vectors: Mapping[str, np.ndarray]
    """Side to unit vectors ``(N, D)``, NaN where a chip lacks it."""
    texts: tuple[str, ...]
    """What is said of each chip."""
    places: tuple[str, ...]
    """Block of each chip."""


def judge(found: Sequence[Sides], seeds: int, depths: Sequence[int] = (1, 5, 10)) -> tuple[Direction, ...]:
    """Compare every side with the words, both ways, and every two sensors.

    Args:
        found: fold by fold, seed by seed.
        seeds: of each fold.
        depths: k.
    """
    sides = [s for s in found[0].vectors if s != TEXT]
    alone = [s for s in sides if s != FUSED]
    pairs = [p for s in sides for p in ((TEXT, s), (s, TEXT))]
    pairs += [(a, b) for a in alone for b in alone if a != b]
    judged = (_direction(one, other, found, seeds, depths) for one, other in pairs)
    return tuple(d for d in judged if d is not None)


def _direction(one: str, other: str, found: Sequence[Sides], seeds: int, depths: Sequence[int]) -> Direction | None:
    """Rank what the other side offers for every chip that the one side sees; None where nothing answers anything."""
    ranked: list[Ranked] = []
    hits: dict[int, list[np.ndarray]] = {k: [] for k in depths}
    places: list[str] = []
    for n, sides in enumerate(found):
        asked, offered = (np.flatnonzero(np.isfinite(sides.vectors[s][:, 0])) for s in (one, other))
        if TEXT in (one, other):  # what is said of a chip that the sensor does not see is another question
            asked = offered = np.intersect1d(asked, offered)
        texts = np.array(sides.texts, dtype=object)
        if other == TEXT:  # captions that several chips share are one answer, not many in a row
            offered = asked[np.sort(np.unique(texts[asked].astype(str), return_index=True)[1])]
        alike = same_text(texts[asked].tolist(), texts[offered].tolist())
        if not any(alike):
            continue
        scores = sides.vectors[one][asked] @ sides.vectors[other][offered].T
        ranks = rank_rows(scores, alike, unanswered="leave out")
        same = len(asked) == len(offered) and bool((asked == offered).all())
        relevant = [frozenset((k,)) for k in range(len(asked))] if same else alike
        ranked.append(Ranked.of(scores, relevant, alike=alike, depths=depths, unanswered="leave out"))
        for k in depths:
            hits[k].append(ranks.recall(k))
        if n % seeds == 0:
            places += [f"{n // seeds} {sides.places[asked[q]]}" for q in ranks.queries]
    if not ranked:
        return None
    recall = {}
    for k, values in hits.items():
        table = np.stack([np.concatenate(values[s::seeds]) for s in range(seeds)])
        recall[k] = ranking_bootstrap(table, groups=places)
    return Direction(f"{one} -> {other}", tuple(ranked), recall)


def sides_of(fitted: Fitted, tests: Mapping[str, tuple[ChipBatches, list[str]]], config: RunConfig) -> Sides:
    """Embed the test chips of all sites."""
    embedder = Embedder(fitted)
    names = tuple(config.modalities)
    views = [FUSED, *names] if len(names) > 1 else [FUSED]
    vectors: dict[str, list[np.ndarray]] = {v: [] for v in (*views, TEXT)}
    texts: list[str] = []
    places: list[str] = []
    for batches, blocks in tests.values():
        for batch in batches.epoch(0):
            for view in views:
                vectors[view].append(_seen(embedder, batch, None if view == FUSED else view))
            vectors[TEXT].append(embedder.text(batch.text))
            texts += batch.text
            assert batch.index is not None
            places += [blocks[k] for k in batch.index.tolist()]  # chips come area by area, not in the order of the list
    if not texts:
        raise ConfigError("no test chip has a text", fix="choose other blocks, or smaller chips")
    return Sides({n: np.concatenate(v) for n, v in vectors.items()}, tuple(texts), tuple(places))


def _seen(embedder: Embedder, batch: Sample, name: str | None) -> np.ndarray:
    """Embed a batch as one sensor sees it, or all; NaN where a chip has nothing of that."""
    from geomm.tasks.contrastive import only

    shown = batch if name is None or name not in batch.images else only(batch, name)
    has = np.zeros(len(batch.text), bool)
    for key, valid in shown.valid.items():
        has |= (valid.flatten(1).any(1).numpy()) & (name in (None, key))
    out = np.full((len(has), embedder.dimension), np.nan, np.float32)
    if has.any():
        out[has] = embedder.images(shown)[has]
    return out


def _index(
    config: RunConfig, sites: list[Site], package: ModelPackage, fitted: Fitted, folder: Path, progress: Progress
) -> Index:
    from shapely.geometry import shape

    embedder = Embedder(fitted)
    index = claim(package, folder, embedder)
    with index.writing():
        for site in sites:
            tell = teller_of(config, site)

            def text(window: Window, tell: Any = tell) -> tuple[str, bool]:
                return tell(window), derived(config)

            def told(done: int, of: int, name: str = site.name) -> None:
                progress(f"index {name}", done, of)

            settings = IndexSettings(config.chips.size)
            about = JobNotes(text, text_identity(config), {s.id: (s.href, shape(s.footprint)) for s in site.scenes})
            index_cube(index, embedder, site.cube, job=site.name, settings=settings, about=about, on_chips=told)
    return index


def lines(result: SearchResult) -> Iterator[str]:
    """Yield what a run found, for a terminal: recall with its intervals and sizes, then every query's hits."""
    from geomm.pipeline.gallery import hits_table

    for direction in result.directions:
        first = direction.ranked[0]
        told = ", ".join(f"R@{k} {v}" for k, v in direction.recall.items())
        best = (
            ""
            if first.ceiling is None
            else f"; one chip only counts: R@1 {first.recall[1]:.3f} of at most {first.ceiling[1]:.3f}"
        )
        yield f"{direction.name:24} {told}; {first.queries} test chips, {first.rows} to choose from{best}"
    for words, hits in result.tables.items():
        yield f'\n"{words}"'
        yield from ("  " + "  ".join(row) for row in hits_table(hits)[:3])
        yield f"  {result.answers[words]}"
