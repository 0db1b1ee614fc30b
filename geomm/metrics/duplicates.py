"""Captions that several rows share: who else answers a query, and how well a perfect model can do all the same."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence

from geomm.errors import ConfigError

type Texts = Sequence[str | Collection[str]]
"""A text per query or row, or several where an image has several captions."""


def fold(text: str) -> str:
    """Return a text without what does not change what it says: case, punctuation, spaces, forms of the same letter.

    >>> fold("A  lake,beside a Town.") == fold("a lake beside a town")
    True
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(" " if unicodedata.category(c)[0] in "PZC" else c for c in plain).split())


def same_text(queries: Texts, rows: Texts) -> list[frozenset[int]]:
    """Return the rows that have a text in common with each query, see :func:`fold`.

    A text of which nothing is left when folded says nothing: it is the same as no other.

    Args:
        queries: as asked, such as captions.
        rows: of those that are ranked, such as the captions of images.
    """
    known: dict[str, str] = {}

    def keys(texts: str | Collection[str]) -> frozenset[Hashable]:
        each = [texts] if isinstance(texts, str) else texts
        for text in set(each) - set(known):
            known[text] = fold(text)
        return frozenset(known[t] for t in each if known[t])

    return _common([keys(q) for q in queries], [keys(r) for r in rows])


def same_key(queries: Sequence[Hashable], rows: Sequence[Hashable]) -> list[frozenset[int]]:
    """Return the rows whose key is that of the query: relevance of the standard protocol, by image, place or class.

    Args:
        queries: such as the image that each caption was written of.
        rows: such as the images.
    """
    return _common([frozenset((q,)) for q in queries], [frozenset((r,)) for r in rows])


def ceiling(alike: Sequence[Collection[int]], depths: Sequence[int] = (1, 5, 10)) -> dict[int, float]:
    """Return the R@k of a perfect model where one row per query counts though others are described alike.

    Nothing in a caption that m rows share tells them apart: the row that counts stands anywhere among the first m with
    the same chance, among the best k with min(1, k / m). The ceiling is the mean over queries.

    Args:
        alike: rows that answer each query as well, the one that counts among them: ``same_text(captions, captions of
            each image)``. An image that has a caption twice is one row.
        depths: k.

    Raises:
        ConfigError: there is no query, one that no row answers, or a depth below 1.
    """
    sizes = [len(a) for a in alike]
    if not sizes or min(sizes) == 0 or min(depths, default=1) < 1:
        where = f"query {sizes.index(0)}" if 0 in sizes else ""
        raise ConfigError(
            "a ceiling needs a row for every query, and depths of at least 1",
            where=where,
            why=f"{len(sizes)} queries, {sizes.count(0)} of them without a row, depths {tuple(depths)}",
            fix="give depths such as (1, 5, 10), and leave out queries that no row answers",
        )
    return {k: sum(min(1.0, k / m) for m in sizes) / len(sizes) for k in depths}


def _common(queries: Sequence[frozenset[Hashable]], rows: Sequence[frozenset[Hashable]]) -> list[frozenset[int]]:
    """Return the rows that have a key in common with each query; queries of the same keys share one set."""
    places: dict[Hashable, list[int]] = defaultdict(list)
    for number, keys in enumerate(rows):
        for key in keys:
            places[key].append(number)
    answers = {keys: frozenset(n for key in keys for n in places.get(key, ())) for keys in set(queries)}
    return [answers[keys] for keys in queries]
