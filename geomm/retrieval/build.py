"""From a cube to rows of an index, batch by batch: vectors, footprints, pictures, and what is where in a chip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import batched
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geomm.chips import ChipGrid
from geomm.errors import ConfigError
from geomm.retrieval.footprints import footprints
from geomm.types import Modality, Window

if TYPE_CHECKING:
    import xarray as xr

    from geomm.chipping import ChipReader
    from geomm.dataset import Sample
    from geomm.retrieval.embedder import Embedder
    from geomm.retrieval.index import Index

Views = Literal["fused", "each", "both"]

FUSED = "fused"
"""View of a row that was made of all sensors that a chip has."""

COMMIT = 8
"""Batches that are written at a time: what a killed build loses at most."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """How chips become rows."""

    size: int = 64
    """Side of a chip in pixels."""
    views: Views = "fused"
    """``fused``: one vector from all sensors of a chip; ``each``: one from every sensor alone; ``both``."""
    enough: float = 0.1
    """Smallest valid share of a chip, of the sensor that has most of it; others are left out."""
    side: int = 8
    """Cells along a side of a chip that say where in it something is; 0 for none."""
    pictures: bool = True
    """Keep a small picture of every chip."""
    batch: int = 32
    """Chips that go through the model at a time."""

    def __post_init__(self) -> None:
        if self.size < 1 or self.batch < 1 or self.side < 0 or not 0 < self.enough <= 1:
            raise ConfigError(
                "an index needs chips and batches of at least one, and a share above 0 and at most 1",
                why=f"size {self.size}, batch {self.batch}, cells {self.side}, enough {self.enough}",
                fix="for example IndexSettings(size=64, batch=32)",
            )
        if self.views not in ("fused", "each", "both"):
            raise ConfigError("unknown views", why=f"got {self.views}", fix="fused, each or both")


@dataclass(frozen=True, slots=True)
class JobNotes:
    """What is known of a cube beyond its pixels."""

    text: Callable[[Window], tuple[str, bool]] | None = None
    """Returns the text of a window and whether it was derived, not written by somebody."""
    text_identity: str = ""
    """What is the same exactly if the texts are."""
    items: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    """Id of a STAC item to its address and its footprint in degrees (a shapely geometry); a chip names the items that
    it touches, and those that are not listed by their id."""
    sources: tuple[str, ...] = ()
    """What the pixels depend on beyond what the cube says of itself, such as the addresses of files."""
    covers: Callable[[Window], bool] | None = None
    """Whether a chip is wanted now; None for all. Others may follow by a later call."""


@dataclass(slots=True)
class _Rows:
    """Rows of some batches on their way into the index."""

    vectors: list[np.ndarray] = field(default_factory=list)
    table: list[dict[str, Any]] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    cells: list[np.ndarray] = field(default_factory=list)


def index_cube(
    index: Index,
    embedder: Embedder,
    cube: xr.DataTree,
    *,
    job: str,
    settings: IndexSettings | None = None,
    about: JobNotes | None = None,
    on_chips: Callable[[int, int], None] | None = None,
) -> int:
    """Append the chips of a cube to an index; chips that earlier calls with the same cube appended stay as they are.

    Args:
        index: open for writing; killed at any time, it holds whole commits of :data:`COMMIT` batches.
        embedder: makes the vectors.
        cube: lazy; each of its blocks is read once.
        job: name of the cube in the index, such as that of its scene. A cube of that name with other content, or other
            settings, replaces the rows of the one before.
        settings: default :class:`IndexSettings`.
        about: what else is known of the cube.
        on_chips: told how many chips are done, and how many there are.

    Returns:
        Number of rows appended.

    Raises:
        ConfigError: the cube has none of the model's modalities, or the arguments are exchanged.
        OutputError: the index cannot be written.
    """
    from geomm.chipping import ChipReader
    from geomm.cube import geobox_of
    from geomm.dataset import to_sample

    if not hasattr(index, "jobs") or not hasattr(embedder, "images"):
        fix = "write geomm.index_cube(index, Embedder.of(package), cube, job=NAME)"
        raise ConfigError("the index comes first, then what makes vectors", where=repr(index)[:80], fix=fix)
    settings, about = settings or IndexSettings(), about or JobNotes()
    geobox = geobox_of(cube)
    grid = ChipGrid((int(geobox.shape[0]), int(geobox.shape[1])), settings.size)
    whole = ChipReader(cube, list(grid), embedder.modalities)
    digest = _digest(whole, settings, about)
    done = _begin(index, job, digest)
    wanted = [c for c in whole.chips if about.covers is None or about.covers(c.write)]
    chips = [c for c in wanted if c.index not in done]
    reader = replace(whole, chips=chips)
    maker = _Maker(embedder, reader, settings, job, about)
    before = len(index)
    for group in batched(reader.stream(settings.batch) if chips else iter(()), COMMIT):
        rows = _Rows()
        for arrays in group:
            maker.add(rows, to_sample(arrays))
            done |= {chips[k].index for k in arrays.index.tolist()}
        _commit(index, rows, {job: {"digest": digest, "chips": _spans(done), "of": len(grid)}})
        if on_chips:
            on_chips(sum(c.index in done for c in wanted), len(wanted))
    return len(index) - before


def _begin(index: Index, job: str, digest: str) -> set[int]:
    """Return which chips of a job are in. Rows of a job of another content are removed first.

    That they are to be removed is written down before, and forgotten with the first new rows: killed in between, the
    next call removes what is left of them.
    """
    known = index.jobs.get(job)
    if known is None:
        return set()
    if known["digest"] == digest and not known.get("clearing"):
        return {k for first, last in known["chips"] for k in range(first, last + 1)}
    _commit(index, _Rows(), {job: {"digest": digest, "chips": [], "of": known["of"], "clearing": True}})
    table = index.rows(index.numbers)
    index.delete(table.index[table["job"] == job].to_numpy())
    return set()


def _spans(numbers: set[int]) -> list[list[int]]:
    """Return ascending numbers as first and last of runs."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return spans


def _commit(index: Index, rows: _Rows, jobs: dict[str, Any]) -> None:
    import geopandas

    table = geopandas.GeoDataFrame(
        rows.table, geometry="geometry", crs="EPSG:4326", columns=None if rows.table else ["id", "geometry"]
    )
    index.append(
        np.concatenate(rows.vectors) if rows.vectors else np.zeros((0, index.dimension), np.float32),
        table,
        pictures=rows.pictures or None,
        cells=np.concatenate(rows.cells) if rows.cells else None,
        jobs=jobs,
    )


@dataclass(frozen=True, slots=True)
class _Maker:
    """Makes rows of batches."""

    embedder: Embedder
    reader: ChipReader
    settings: IndexSettings
    job: str
    about: JobNotes

    def add(self, rows: _Rows, batch: Sample) -> None:
        """Add the rows of a batch: of every view, the chips that have enough valid pixels."""
        from geomm.retrieval.pictures import pictures_of

        share = {n: v.any(1).float().mean((1, 2)).numpy() for n, v in batch.valid.items()}
        for view, seen in self._views(batch):
            best = np.max([share[n] for n in seen], axis=0)
            keep = np.flatnonzero(best >= self.settings.enough)
            if not keep.size:
                continue
            part = _shown(batch, seen, keep)
            rows.vectors.append(self.embedder.images(part))
            rows.table += self._table(batch, keep, view, {n: share[n][keep] for n in seen})
            if self.settings.pictures:
                rows.pictures += pictures_of(part, self._streams(), seen)
            if self.settings.side:
                rows.cells.append(self.embedder.cells(part, self.settings.side))

    def _views(self, batch: Sample) -> Iterator[tuple[str, tuple[str, ...]]]:
        names = tuple(batch.images)
        if self.settings.views != "each" or len(names) == 1:
            yield FUSED, names
        if self.settings.views != "fused" and len(names) > 1:
            yield from ((name, (name,)) for name in names)

    def _streams(self) -> dict[str, Modality]:
        about = {n: self.reader.about(n) for n in self.reader.sources}
        return {n: Modality(str(a["sensor"]), tuple(a["bands"])) for n, a in about.items()}

    def _table(self, batch: Sample, keep: np.ndarray, view: str, share: dict[str, np.ndarray]) -> list[dict[str, Any]]:
        assert batch.index is not None and batch.bounds is not None  # noqa: PT018 - set by the reader
        epsg = self.reader.geobox.crs.epsg
        crs = f"EPSG:{epsg}" if epsg else str(self.reader.geobox.crs)
        bounds = batch.bounds.numpy()[keep]
        shapes = footprints(bounds, crs)
        sensors, rows = {n: str(self.reader.about(n)["sensor"]) for n in share}, []
        for k, number in enumerate(batch.index.numpy()[keep].tolist()):
            window = self.reader.chips[number].write
            seen = [n for n in share if share[n][k] > 0]
            words, derived = self.about.text(window) if self.about.text else ("", False)
            row = {
                "id": f"{self.job}/{window.y}-{window.x}/{view}",
                "geometry": shapes[k],
                "datetime": self.reader.time,
                "sensors": ",".join(dict.fromkeys(sensors[n] for n in seen)),
                "text": words,
                "derived": derived,
                "job": self.job,
                "view": view,
                "items": json.dumps(self._items(seen, shapes[k])),
                "valid": round(float(max(share[n][k] for n in seen)), 4),
                "crs": crs,
            }
            rows.append(row | dict(zip(("left", "bottom", "right", "top"), bounds[k].tolist(), strict=True)))
        return rows

    def _items(self, seen: Sequence[str], shape: Any) -> list[str]:
        """Return the addresses of the items that a chip was seen by."""
        found = set()
        for name in dict.fromkeys(i for n in seen for i in self.reader.items(n)):
            link, footprint = self.about.items.get(name, (name, None))
            if footprint is None or footprint.intersects(shape):
                found.add(link)
        return sorted(found)


def _shown(batch: Sample, seen: Sequence[str], keep: np.ndarray) -> Sample:
    """Return some samples of a batch with some of its modalities."""
    import torch

    rows = torch.from_numpy(keep)
    parts = {
        key: {n: x[rows] for n, x in getattr(batch, key).items() if n in seen}
        for key in ("images", "valid", "calibration", "present")
    }
    return replace(batch, **parts, target=None, text=(), bounds=None, index=None)


def _digest(reader: ChipReader, settings: IndexSettings, about: JobNotes) -> str:
    """Return what two cubes have in common exactly if the same chips would become the same rows."""
    told = {n: [reader.about(n), reader.items(n), reader.calibration[n].tolist()] for n in reader.sources}
    grid = [str(reader.geobox.crs), list(reader.geobox.affine[:6]), list(reader.shape), reader.time]
    text = json.dumps(
        [told, grid, asdict(settings), about.text_identity, sorted(about.sources)], sort_keys=True, default=str
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
