"""How well words find chips, chips words, and sensors each other, on test chips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.config import RunConfig
from geomm.errors import ConfigError
from geomm.metrics import Interval, Ranked, rank_rows, ranking_bootstrap, same_text
from geomm.retrieval.build import FUSED
from geomm.retrieval.embedder import Embedder

if TYPE_CHECKING:
    from geomm.batches import ChipBatches
    from geomm.dataset import Sample
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
