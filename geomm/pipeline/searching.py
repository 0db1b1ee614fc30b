"""Ask an index in words and leave what was found: a table, a file for a GIS, a page with pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geomm.errors import ConfigError
from geomm.grounding import heat_of
from geomm.pipeline.gallery import Gallery
from geomm.retrieval import Index
from geomm.types import BBox

EARTH = 111.32
"""Kilometres of a degree of latitude."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an index."""

    words: str = ""
    """What to look for; empty with ``like``."""
    k: int = 10
    """How many places."""
    aoi: BBox | None = None
    """West, south, east, north in degrees."""
    datetime: str | None = None
    """Instant or interval."""
    sensors: tuple[str, ...] = ()
    """Names of sensors; rows made of others are left out."""
    like: str = ""
    """Id of a row: look for what is like that chip, whichever sensors it was seen by."""

    def __post_init__(self) -> None:
        if bool(self.words.strip()) == bool(self.like):
            raise ConfigError(
                "say what to look for: words, or the chip that it is like",
                fix="""one of the two: geomm search INDEX "open water", or --like ID""",
            )

    @property
    def title(self) -> str:
        """What is asked, in words."""
        return self.words or f"like {self.like}"

    def told(self) -> list[str]:
        """Return its filters in words."""
        lines = [f"within {', '.join(f'{v:.4f}' for v in self.aoi)}"] if self.aoi else []
        lines += [f"between {self.datetime}"] if self.datetime else []
        return lines + ([f"seen by {', '.join(self.sensors)} alone"] if self.sensors else [])


def ask(index: Index, question: Question) -> Any:
    """Return the hits of a question, best first; items as lists.

    Raises:
        ConfigError: the index has no model that understands words.
    """
    hits = index.search(
        direction_of(index, question),
        k=question.k,
        aoi=question.aoi,
        datetime=question.datetime,
        sensors=question.sensors,
    )
    return listed(hits)


def listed(hits: Any) -> Any:
    """Return rows of an index with their items as lists; those that have them so stay as they are."""
    if "items" not in hits:
        return hits
    return hits.assign(items=[json.loads(i) if isinstance(i, str) else i for i in hits["items"]])


def direction_of(index: Index, question: Question) -> np.ndarray:
    """Return the vector that a question looks for, float32 ``(D,)``.

    Raises:
        ConfigError: the index has no row of that id, or no model that understands words.
    """
    if question.like:
        liked: np.ndarray = index.vectors([number_of(index, question.like)])[0]
        return liked
    if index.embedder is None:
        raise ConfigError(
            "the index has no model that understands words",
            where=str(index.folder),
            fix="search with --like ID, or index again with a contrastive model that is still there",
        )
    return np.asarray(index.embedder.text([question.words])[0], np.float32)


def number_of(index: Index, name: str) -> int:
    """Return the number of a row by its id.

    Raises:
        ConfigError: there is none.
    """
    table = index.rows(index.numbers)
    found = table.index[table["id"] == name]
    if not len(found):
        raise ConfigError("the index has no such chip", where=name, fix="ids are in the table of any search")
    return int(found[0])


def seen_by(index: Index) -> str:
    """Return which sets of sensors the rows of an index were made of."""
    table = index.rows(index.numbers)
    sets = sorted(set(table["sensors"])) if "sensors" in table else []
    return " or by ".join(s.replace(",", " and ") for s in sets) or "no sensor that is known"


def heats(index: Index, direction: np.ndarray, numbers: Any) -> list[np.ndarray | None]:
    """Return for each row how much each of its cells has of a direction, float32 ``(g, g)``; None without cells.

    The mean of a map over the cells that hold anything is the row's score, unless the model takes a share of the mean
    off first (see :func:`geomm.grounding.heat_of`).
    """
    import torch

    cells = index.cells(numbers)
    if cells is None or not len(cells):
        return [None] * len(numbers)
    bias = float(getattr(index.embedder, "global_bias", 0.0))
    maps = torch.from_numpy(np.ascontiguousarray(np.moveaxis(cells, -1, 1)))
    side = (maps.shape[-2], maps.shape[-1])
    heat = heat_of(maps, torch.from_numpy(direction[None].astype(np.float32)), side, bias=bias).numpy()[:, 0]
    if not bias:
        seen = (cells != 0).any(-1, keepdims=True)
        mean = (cells * seen).sum((1, 2)) / np.maximum(seen.sum((1, 2)), 1)
        heat = heat / np.maximum(np.linalg.norm(mean, axis=1), 1e-6)[:, None, None]
    return list(heat.astype(np.float32))


def tell(index: Index, name: str, texts: Sequence[str] = (), *, k: int = 5) -> list[tuple[str, float]]:
    """Return the texts that fit a chip best, with their scores.

    Args:
        index: with its model.
        name: id of the chip.
        texts: to choose from; default all that the index keeps with other chips.
        k: how many.

    Raises:
        ConfigError: there is no such chip, no model, or nothing to choose from.
    """
    table = index.rows(index.numbers)
    kept = table.loc[table["id"] != name, "text"] if "text" in table else ()
    offered = list(dict.fromkeys(t for t in (texts or kept) if t.strip()))
    if not name:
        raise ConfigError("say which chip is to be told", fix="--like ID --tell")
    if index.embedder is None or not offered:
        raise ConfigError(
            "there are no texts to choose from, or no model that understands them",
            where=name,
            fix="make the index with texts: geomm index --texts FILE",
        )
    vector = index.vectors([number_of(index, name)])[0]
    scores = index.embedder.text(offered) @ vector
    best = np.lexsort((np.arange(len(offered)), -scores))[:k]
    return [(offered[b], float(scores[b])) for b in best]


def gallery(index: Index, asked: str | Question, *, hits: Any | None = None) -> Gallery:
    """Ask an index, and return what it found as something to look at.

    Args:
        index: with its model where words are asked, see :func:`geomm.open_index`.
        asked: words, or a question with filters or a chip to be like.
        hits: rows of the index, such as ``index.search`` returns, to be shown instead of the best ones: some of them,
            or in another order.

    Returns:
        A notebook shows it as a page; ``.plot()`` draws pictures beside heat, ``.hits`` is the table.

    Raises:
        ConfigError: the index has no model that understands words, or no such chip.
    """
    given: tuple[Any, Any] = (index, asked)
    if not isinstance(given[0], Index) or not isinstance(given[1], (str, Question)):
        fix = 'gallery(open_index("places"), "the open sea"), or a Question'
        raise ConfigError("a gallery is of an index and a question", where=f"{index!r}, {asked!r}"[:80], fix=fix)
    question = Question(asked) if isinstance(asked, str) else asked
    found = ask(index, question) if hits is None else listed(hits)
    notes = [*question.told(), f"{len(index)} chips in the index"]
    made_by = index.about.get("model_sha256")
    notes += [f"model {made_by[:12]}"] if made_by else []
    pictures = [p or None for p in index.pictures(found.index)]
    heat = heats(index, direction_of(index, question), found.index)
    return Gallery(question.title, found, pictures, heat, notes)


def leave(index: Index, question: Question, hits: Any, page: Path | None, files: Sequence[Path] = ()) -> None:
    """Write hits as files and as a page with pictures.

    Args:
        index: where they come from.
        question: what was asked.
        hits: of :func:`ask`.
        page: HTML file; None for none.
        files: GeoJSON, GeoPackage or GeoParquet, by their extension.
    """
    found = gallery(index, question, hits=hits)
    for path in (*files, page):
        if path is not None:
            found.save(path)


def near(text: str) -> BBox:
    """Read ``lon,lat,km`` as the box around a circle, in degrees.

    Raises:
        ConfigError: it is not three numbers, or no place and distance.
    """
    try:
        lon, lat, distance = (float(v) for v in text.split(","))
    except ValueError as error:
        raise ConfigError("the place is not lon,lat,km", where=text, fix="--near 8.54,47.37,20") from error
    if not (-180 <= lon <= 180 and -90 <= lat <= 90 and distance > 0):
        raise ConfigError("there is no such place", where=text, fix="degrees, and kilometres above 0")
    high = distance / EARTH
    wide = min(180.0, high / max(np.cos(np.radians(min(abs(lat) + high, 89.9))), 1e-6))
    south, north = max(lat - high, -90.0), min(lat + high, 90.0)
    if wide >= 180:
        return -180.0, south, 180.0, north
    west, east = ((v + 180) % 360 - 180 for v in (lon - wide, lon + wide))
    return float(west), south, float(east), north
