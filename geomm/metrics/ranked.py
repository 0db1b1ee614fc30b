"""All figures of a retrieval in one record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError
from geomm.metrics.duplicates import ceiling
from geomm.metrics.ranking import Ranks, Relevance, Unanswered, answers_of, rank_rows

DEPTHS = (1, 5, 10)
"""k of R@k in image-text retrieval."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Figures of one direction of a retrieval, such as text to image."""

    recall: Mapping[int, float]
    """R@k by k: share of queries with an answer among the best k."""
    average_precision: float
    """mAP over all rows."""
    ndcg: float
    """nDCG over all rows."""
    median_rank: float
    """Of the best answer, from 1."""
    queries: int
    """Queries that were ranked."""
    rows: int
    """Rows they were ranked among."""
    left_out: int = 0
    """Queries that no row answers; they count in no figure."""
    alike_recall: Mapping[int, float] | None = None
    """R@k where rows of the same text count as well; None where it was not asked for."""
    ceiling: Mapping[int, float] | None = None
    """R@k of a perfect model; None where it was not asked for, or where queries have several answers."""

    @classmethod
    def of(
        cls,
        scores: NDArray[np.generic],
        relevant: Relevance,
        *,
        alike: Sequence[Collection[int]] | None = None,
        depths: Sequence[int] = DEPTHS,
        unanswered: Unanswered = "refuse",
    ) -> Ranked:
        """Rank and count.

        Args:
            scores: ``(Q, N)``, higher is better; ties count against the query.
            relevant: rows that answer each query, by the protocol that is to be reported.
            alike: rows that answer it as well, those among them: ``same_text``.
            depths: k.
            unanswered: what is done with queries that no row answers.

        Raises:
            ConfigError: see :func:`rank_rows`, or an answer is not among the rows that answer as well.
        """
        ranks = rank_rows(scores, relevant, unanswered=unanswered)
        loose, best = None, None
        if alike is not None:
            kept = [frozenset(alike[q]) for q in ranks.queries]
            for query, rows in zip(ranks.queries.tolist(), kept, strict=True):
                if not rows.issuperset(answers_of(relevant, query, ranks.rows)[0].tolist()):
                    raise ConfigError(
                        "a row that answers a query is not among those alike",
                        where=f"query {query}",
                        fix="count every row among those that are like itself",
                    )
            wider = rank_rows(np.asarray(scores)[ranks.queries], kept)
            loose = _recalls(wider, depths)
            best = ceiling(kept, depths) if (ranks.answers == 1).all() else None
        return cls(
            _recalls(ranks, depths),
            float(ranks.average_precision().mean()),
            float(ranks.ndcg().mean()),
            float(np.median(ranks.first)),
            len(ranks),
            ranks.rows,
            ranks.left_out,
            loose,
            best,
        )

    def __str__(self) -> str:
        """One line for people; a figure stands with the number of queries and rows that it is of."""
        parts = [
            _listed("", self.recall),
            f"mAP {self.average_precision:.3f}, nDCG {self.ndcg:.3f}, median rank {self.median_rank:g}",
            _listed("any row of the same text counts: ", self.alike_recall or {}),
            _listed("at most, as texts are shared: ", self.ceiling or {}),
            f"{self.queries:,} queries, {self.rows:,} rows"
            + (f", {self.left_out:,} queries without an answer left out" if self.left_out else ""),
        ]
        return "; ".join(p for p in parts if p)

    def facts(self) -> dict[str, Any]:
        """Return the figures as JSON types; depths become text."""
        return {
            name: {str(k): v for k, v in value.items()} if isinstance(value, dict) else value
            for name, value in asdict(self).items()
        }


def mean_recall(one: Ranked, other: Ranked) -> float:
    """Return the mean of R@1, R@5 and R@10 of both directions: mR of image-text retrieval.

    Args:
        one: image to text.
        other: text to image.

    Raises:
        ConfigError: one of them was not counted at these depths.
    """
    if not set(DEPTHS) <= set(one.recall) & set(other.recall):
        raise ConfigError(
            "mean recall is of R@1, R@5 and R@10",
            why=f"{[*one.recall]}, {[*other.recall]}",
            fix="rank with depths (1, 5, 10)",
        )
    return float(np.mean([r.recall[k] for r in (one, other) for k in DEPTHS]))


def _recalls(ranks: Ranks, depths: Sequence[int]) -> dict[int, float]:
    return {k: float(ranks.recall(k).mean()) for k in depths}


def _listed(label: str, found: Mapping[int, float]) -> str:
    return label + ", ".join(f"R@{k} {v:.3f}" for k, v in found.items()) if found else ""
