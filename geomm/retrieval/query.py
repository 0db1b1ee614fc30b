"""What an index is asked and told, in the forms in which callers have it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError

type Method = Literal["auto", "exact", "ann"]
"""How to search: exactly, approximately, or whichever is better."""


class Embedder(Protocol):
    """Makes vectors of what is asked for; the index's own model does."""

    def text(self, texts: Sequence[str]) -> NDArray[Any]:
        """Return vectors ``(n, D)``."""

    def image(self, sample: Any) -> NDArray[Any]:
        """Return a vector ``(D,)``."""


def embed(query: Any, embedder: Embedder | None) -> NDArray[Any]:
    """Return the vector of a query.

    Raises:
        ConfigError: it is no vector, and there is no embedder.
    """
    if isinstance(query, np.ndarray):
        return query
    if query is None or hasattr(query, "data_vars") or hasattr(query, "children"):
        fix = 'ask by a text, a vector, or a chip of a dataset: index.search("open water"), index.search(dataset[0])'
        raise ConfigError("this is no query", why=f"got {type(query).__name__}", fix=fix)
    if isinstance(query, (list, tuple)) or hasattr(query, "__array__"):
        return np.asarray(query)
    if embedder is None:
        raise ConfigError(
            "the index has no embedder",
            why=f"the query is no vector but {type(query).__name__}",
            fix="open the index with its model, or embed the query yourself",
        )
    return embedder.text([query])[0] if isinstance(query, str) else embedder.image(query)


def row_numbers(given: Any) -> NDArray[np.int64]:
    """Return numbers of rows.

    Raises:
        ConfigError: they are something else, such as ids.
    """
    numbers = np.asarray(given)
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        fix = "give whole numbers: index.rows([0, 1]), or index.rows(hits.index) of what index.search(...) found"
        raise ConfigError("rows are named by a list of their numbers", where=repr(given)[:80], fix=fix)
    return numbers.astype(np.int64)


def plain(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return values as they will be read from JSON.

    Raises:
        ConfigError: they cannot be kept as JSON.
    """
    try:
        return dict(json.loads(json.dumps(dict(values), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{name} cannot be kept as JSON", why=str(error), fix="give texts, numbers, lists and mappings"
        ) from error
