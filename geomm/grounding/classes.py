"""Classes of chips that a model was never trained for, by prompts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.errors import ConfigError
from geomm.grounding.prompts import Prompts
from geomm.metrics import Interval, accuracy, block_bootstrap, confusion, mean_f1
from geomm.types import INVALID_CLASS, check_kind

if TYPE_CHECKING:
    from geomm.dataset import Sample
    from geomm.retrieval.embedder import Embedder


@dataclass(frozen=True, slots=True)
class ZeroShot:
    """What a model made of chips, with the prompts that it was asked by: neither says anything without the other."""

    prompts: Prompts
    """What was asked."""
    scores: np.ndarray
    """Cosine of every chip and class, float32 ``(N, K)``."""
    labels: np.ndarray
    """Index of the class of every chip, 255 where it is not known, ``(N,)``."""
    places: np.ndarray
    """Number of the place of every chip; intervals are over places, ``(N,)``."""

    @property
    def predicted(self) -> np.ndarray:
        """Index of the likeliest class of every chip, ``(N,)``."""
        return self.scores.argmax(1)

    def accuracy(self) -> Interval:
        """Return the share of labelled chips that are right, with an interval over places."""
        return block_bootstrap(self._counts(), statistic=accuracy)

    def facts(self) -> dict[str, Any]:
        """Return the figures, the number of chips behind them, and the prompts with their hash, as JSON types."""
        counts = self._counts().sum(0)
        right = self.accuracy()
        return {
            "accuracy": [right.value, right.low, right.high],
            "mean_f1": mean_f1(counts),
            "chips": int(counts.sum()),
            "places": len(np.unique(self.places)),
            "prompts": self.prompts.to_json(),
            "prompts_sha256": self.prompts.sha256,
        }

    def _counts(self) -> np.ndarray:
        found = self.predicted
        classes = len(self.prompts.classes)
        tables = [
            confusion(self.labels[self.places == p], found[self.places == p], classes) for p in np.unique(self.places)
        ]
        return np.stack(tables)


def zero_shot(
    embedder: Embedder,
    prompts: Prompts,
    batches: Iterable[Sample],
    *,
    labels: np.ndarray | None = None,
    places: np.ndarray | None = None,
) -> ZeroShot:
    """Compare chips with prompts.

    Args:
        embedder: the model.
        prompts: the classes in words.
        batches: of chips, as a loader gives them.
        labels: index of the class of every chip, 255 where it is not known; default all unknown.
        places: number of the place of every chip; default each its own.

    Raises:
        ConfigError: there is no chip, there are other numbers of labels or places than of chips, a label is no index of
            a class, or an argument is of another kind.
    """
    _check_kinds(embedder, prompts, batches)
    vectors = prompts.vectors(embedder)
    parts = [embedder.images(batch) @ vectors.T for batch in batches]
    if not parts:
        raise ConfigError("there are no chips to classify", fix="give a store or a dataset that holds chips")
    scores = np.concatenate(parts)
    known = np.full(len(scores), 255) if labels is None else np.asarray(labels)
    where = np.arange(len(scores)) if places is None else np.asarray(places)
    if len(known) != len(scores) or len(where) != len(scores):
        raise ConfigError(
            "every chip has one label and one place",
            why=f"{len(scores)} chips, {len(known)} labels, {len(where)} places",
            fix="give as many labels and places as chips, in the same order",
        )
    _check_labels(known, prompts)
    return ZeroShot(prompts, scores, known, where)


def _check_kinds(embedder: Any, prompts: Any, batches: Any) -> None:
    if not hasattr(embedder, "images"):
        fix = "write zero_shot(Embedder.of(package), prompts, batches)"
        raise ConfigError("this is no embedder", why=f"got {type(embedder).__name__}", fix=fix)
    fix = 'write Prompts.of("a lake", "a town")'
    check_kind(prompts, Prompts, "classes in words are Prompts", fix=fix)
    fix = "give a loader, which keeps the order of the chips: ChipLoader(dataset, 16)"
    check_kind(batches, Iterable, "batches come from a loader", fix=fix)


def _check_labels(labels: np.ndarray, prompts: Prompts) -> None:
    """Refuse labels that are no indices of classes."""
    count = len(prompts.classes)
    wrong = [v for v in np.unique(labels).tolist() if v not in range(count) and v != INVALID_CLASS]
    if wrong or labels.dtype.kind not in "iu":
        names = [c.name for c in prompts.classes]
        fix = f"write 0 to {count - 1} for {', '.join(names)}, and {INVALID_CLASS} where the class is not known"
        raise ConfigError(
            "labels are indices of the classes", where=f"labels {(wrong or labels.tolist())[:5]}", fix=fix
        )
