"""From a cube to rows of an index, batch by batch: vectors, footprints, pictures, and what is where in a chip."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import batched
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geomm.chips import ChipGrid
from geomm.errors import ConfigError
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
            )
        if self.views not in ("fused", "each", "both"):
            raise ConfigError("unknown views", why=f"got {self.views}", fix="fused, each or both")


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
    text: Callable[[Window], tuple[str, bool]] | None = None,
    links: Mapping[str, str] | None = None,
    on_chips: Callable[[int, int], None] | None = None,
) -> int:
    """Append the chips of a cube to an index; what an earlier call with the same cube appended stays as it is.

    Args:
        index: open for writing; killed at any time, it holds whole commits of :data:`COMMIT` batches.
        embedder: makes the vectors.
        cube: lazy; each of its blocks is read once.
        job: name of the cube in the index, such as place and day. A cube of that name with other content replaces the
            rows of the one before.
        settings: default :class:`IndexSettings`.
        text: returns the text of a window and whether it was derived, not written by somebody.
        links: id of a STAC item to its address, kept with the rows; items without one are named by their id.
        on_chips: told how many chips are done, and how many there are.

    Returns:
        Number of rows appended.

    Raises:
        ConfigError: the cube has none of the model's modalities.
        OutputError: the index cannot be written.
    """
    from geomm.chipping import ChipReader
    from geomm.cube import geobox_of
    from geomm.dataset import to_sample

    settings = settings or IndexSettings()
    height, width = geobox_of(cube).shape
    chips = list(ChipGrid((int(height), int(width)), settings.size))
    reader = ChipReader(cube, chips, embedder.modalities)
    digest = _digest(reader, settings)
    done = _begin(index, job, digest)
    maker = _Maker(embedder, reader, settings, job, text, links or {})
    stream = reader.stream(settings.batch, skip=-(-done // settings.batch)) if done < len(chips) else iter(())
    before = len(index)
    for group in batched(stream, COMMIT):
        rows = _Rows()
        for arrays in group:
            maker.add(rows, to_sample(arrays))
            done += len(arrays.chips)
        _commit(index, rows, {job: {"digest": digest, "chips": done, "of": len(chips)}})
        if on_chips:
            on_chips(done, len(chips))
    return len(index) - before


def _begin(index: Index, job: str, digest: str) -> int:
    """Return how many chips of a job are in; a job of another content is removed first."""
    known = index.jobs.get(job)
    if known is None:
        return 0
    if known["digest"] == digest:
        return int(known["chips"])
    table = index.rows(index.numbers)
    index.delete(table.index[table["job"] == job].to_numpy())
    return 0


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
    text: Callable[[Window], tuple[str, bool]] | None
    links: Mapping[str, str]

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
            words, derived = self.text(window) if self.text else ("", False)
            row = {
                "id": f"{self.job}/{window.y}-{window.x}/{view}",
                "geometry": shapes[k],
                "datetime": self.reader.time,
                "sensors": ",".join(dict.fromkeys(sensors[n] for n in seen)),
                "text": words,
                "derived": derived,
                "job": self.job,
                "view": view,
                "items": json.dumps(sorted({self.links.get(i, i) for n in seen for i in self.reader.items(n)})),
                "valid": round(float(max(share[n][k] for n in seen)), 4),
                "crs": crs,
            }
            rows.append(row | dict(zip(("left", "bottom", "right", "top"), bounds[k].tolist(), strict=True)))
        return rows


def _shown(batch: Sample, seen: Sequence[str], keep: np.ndarray) -> Sample:
    """Return some samples of a batch with some of its modalities."""
    from dataclasses import replace

    import torch

    rows = torch.from_numpy(keep)
    parts = {
        key: {n: x[rows] for n, x in getattr(batch, key).items() if n in seen}
        for key in ("images", "valid", "calibration", "present")
    }
    return replace(batch, **parts, target=None, text=(), bounds=None, index=None)


def footprints(bounds: np.ndarray, crs: str) -> list[Any]:
    """Return outlines in degrees of boxes in another CRS, cut in two where they cross the antimeridian.

    Args:
        bounds: left, bottom, right, top ``(n, 4)``.
        crs: of the bounds.
    """
    import geopandas
    import shapely

    shapes = geopandas.GeoSeries(shapely.box(*bounds.T), crs=crs).to_crs("EPSG:4326").to_numpy()
    left, _, right, _ = shapely.bounds(shapes).T
    for k in np.flatnonzero(right - left > 180):
        east = shapely.transform(shapes[k], lambda x: np.where(x[:, :1] < 0, x + np.array([360.0, 0.0]), x))
        parts = (
            shapely.intersection(east, shapely.box(0, -90, 180, 90)),
            shapely.intersection(east, shapely.box(180, -90, 360, 90)),
        )
        shapes[k] = shapely.union_all([parts[0], shapely.transform(parts[1], lambda x: x - np.array([360.0, 0.0]))])
    return list(shapes)


def _digest(reader: ChipReader, settings: IndexSettings) -> str:
    """Return what two cubes have in common exactly if the same chips would become the same rows."""
    about = {n: [reader.about(n), reader.items(n)] for n in reader.sources}
    grid = [str(reader.geobox.crs), list(reader.geobox.affine[:6]), list(reader.shape)]
    text = json.dumps([about, grid, asdict(settings)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
