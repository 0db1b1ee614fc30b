"""An opened index as one manifest names it: nothing of it changes, whatever writers do."""

from __future__ import annotations

import os
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError, PackageError
from geomm.retrieval.codes import Choice, Codes
from geomm.retrieval.files import open_array
from geomm.retrieval.filters import Filter
from geomm.retrieval.lists import Lists
from geomm.retrieval.manifest import Manifest
from geomm.retrieval.segment import Segment, key_of

_TRIES = 10  # times that a reader may be overtaken by writers


@dataclass(frozen=True)
class Scannable:
    """Coded rows of an index, and which row each is."""

    codes: Codes
    first: int
    """Number of the first row."""
    order: NDArray[np.int32] | None = None
    """Where the rows are not in order: the row at each position."""
    memory: dict[str, Any] = field(default_factory=dict, repr=False)

    def rows(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the rows at some positions."""
        return positions + self.first if self.order is None else self.order[positions].astype(np.int64)

    def choose(self, wanted: NDArray[np.bool_]) -> Choice:
        """Choose of these codes the rows wanted, a flag per row of the index."""
        mine = wanted[self.first : self.first + len(self.codes)]
        if self.order is None:
            return Choice.of(self.codes, np.flatnonzero(mine))
        count = int(np.count_nonzero(mine))
        if count > len(mine) // 8:
            return Choice.of(self.codes, np.flatnonzero(mine[self.order]))
        if "positions" not in self.memory:
            positions = np.empty(len(mine), np.int32)
            positions[self.order] = np.arange(len(mine), dtype=np.int32)
            self.memory["positions"] = positions
        return Choice.of(self.codes, np.sort(self.memory["positions"][mine]))


@dataclass(frozen=True)
class Snapshot:
    """Opened files of a manifest."""

    folder: Path
    manifest: Manifest
    segments: tuple[Segment, ...]
    lists: Lists | None
    deleted: NDArray[np.int64]
    """Numbers of deleted rows, ascending."""
    memory: dict[str, Any] = field(default_factory=dict, repr=False)
    """What is made at its first use."""

    @classmethod
    def open(cls, folder: Path, previous: Snapshot | None = None) -> Snapshot:
        """Open what the manifest of a folder names; sizes are checked.

        Args:
            folder: of the index.
            previous: opened before; what has not changed is taken from it.

        Raises:
            PackageError: this is no index, or a file is missing or has another size.
        """
        manifest = Manifest.load(folder)
        if previous is not None and manifest == previous.manifest:
            return previous
        for _ in range(_TRIES):
            try:
                return cls._of(folder, manifest, previous)
            except FileNotFoundError as error:  # a writer may have replaced it meanwhile
                before, manifest = manifest, Manifest.load(folder)
                if manifest.generation == before.generation:
                    raise _damaged(folder, error) from error
            except PackageError:
                raise
            except (OSError, ValueError, KeyError) as error:
                raise _damaged(folder, error) from error
        raise PackageError("the index changes faster than it can be opened", where=str(folder), fix="open it again")

    @classmethod
    def _of(cls, folder: Path, manifest: Manifest, previous: Snapshot | None) -> Snapshot:
        for part in manifest.parts:
            for name, record in part.files.items():
                size = (folder / part.name / name).stat().st_size
                if size != record.size:
                    raise _damaged(folder, f"{part.name}/{name} has {size} bytes instead of {record.size}")
        known = {} if previous is None else {s.part.name: s for s in previous.segments if s.part in manifest.segments}
        segments = tuple(known.get(part.name) or Segment.open(folder, part) for part in manifest.segments)
        lists, deleted = None, np.empty(0, np.int64)
        if manifest.ann is not None:
            same = previous is not None and previous.manifest.ann == manifest.ann
            lists = previous.lists if same and previous else Lists.open(folder / manifest.ann.name, manifest.ann.about)
        if manifest.deleted is not None:
            deleted = open_array(folder / manifest.deleted.name / "rows.npy")
        return cls(folder, manifest, segments, lists, deleted)

    @cached_property
    def _crs(self) -> Any:
        from pyproj import CRS

        return CRS("EPSG:4326")

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Number of each segment's first row, and of the row after the last."""
        return np.cumsum([0, *(len(s) for s in self.segments)])

    @cached_property
    def scannable(self) -> tuple[Scannable, ...]:
        """Codes of all rows, each once; those in lists first."""
        listed = 0 if self.lists is None else len(self.lists.codes)
        first = () if self.lists is None else (Scannable(self.lists.codes, 0, self.lists.order),)
        pairs = zip(self.segments, self.starts, strict=False)
        return (*first, *(Scannable(s.codes, int(n)) for s, n in pairs if n >= listed))

    def choices(self, wanted: Filter | None, pool: Executor) -> list[Choice]:
        """Choose the rows that match a filter and are not deleted, of each of ``scannable``.

        Raises:
            UnknownNameError: the filter names a sensor that looks like a typo.
        """
        if wanted is None and not self.deleted.size:
            return [Choice.of(s.codes) for s in self.scannable]
        if wanted is None and "choices" in self.memory:
            found: list[Choice] = self.memory["choices"]
            return found
        rows = np.ones(self.manifest.rows, bool)
        if wanted is not None:
            wanted.check(self.segments)
            rows = np.concatenate([wanted.match(s, pool) for s in self.segments] or [rows])
            if not rows.any():
                wanted.warn_if_lacking(self.segments)
                wanted.warn_if_turned(self.segments, pool)
        rows[self.deleted] = False
        chosen = [s.choose(rows) for s in self.scannable]
        if wanted is None:
            self.memory["choices"] = chosen
        return chosen

    def split(self, rows: NDArray[np.int64]) -> list[tuple[Segment, NDArray[np.int64], NDArray[np.int64]]]:
        """Return segments, the places in ``rows`` that lie in them, and their numbers there.

        Raises:
            ConfigError: there is no such row.
        """
        if rows.size and (rows.min() < 0 or rows.max() >= self.manifest.rows):
            raise ConfigError(
                "there is no such row",
                why=f"rows {rows.min()} to {rows.max()} of {self.manifest.rows}",
                fix=f"rows count from 0 to {self.manifest.rows - 1}",
            )
        starts = self.starts
        where = np.searchsorted(starts, rows, "right") - 1
        found = []
        for k in np.unique(where):
            places = np.flatnonzero(where == k)
            found.append((self.segments[k], places, rows[places] - starts[k]))
        return found

    def table(self, rows: NDArray[np.int64], scores: NDArray[np.float32] | None = None) -> Any:
        """Return rows as a GeoDataFrame indexed by their numbers, with a column ``score`` where it is given."""
        import geopandas
        import pyarrow as pa
        import shapely

        pieces, order = [], [np.empty(0, np.int64)]
        for segment, places, numbers in self.split(rows):
            pieces.append(segment.table(numbers))
            order.append(places)
        if not pieces:
            schemas = [s.reader.schema for s in self.segments] or [_nothing()]
            pieces = [pa.unify_schemas(schemas, promote_options="permissive").empty_table()]
        joined = pa.concat_tables(pieces, promote_options="permissive")
        where = np.concatenate(order)
        if (np.diff(where) < 0).any():
            joined = joined.take(pa.array(np.argsort(where)))
        frame = joined.drop_columns("geometry").to_pandas()
        frame.index = rows
        places = shapely.from_wkb(joined.column("geometry").to_numpy())
        frame["geometry"] = geopandas.array.from_shapely(places, crs=self._crs)
        if scores is not None:
            frame["score"] = scores
        return geopandas.GeoDataFrame(frame, geometry="geometry")

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors of rows."""
        out = np.empty((len(rows), self.manifest.dimension), np.float32)
        for segment, places, numbers in self.split(rows):
            out[places] = segment.vectors[numbers]
        return out

    def pictures(self, rows: NDArray[np.int64]) -> list[bytes]:
        """Return pictures of rows; empty where there is none."""
        out = [b""] * len(rows)
        for segment, places, numbers in self.split(rows):
            if segment.pictures is not None:
                content, ends = segment.pictures
                for place, row in zip(places, numbers, strict=True):
                    out[place] = content[ends[row - 1] if row else 0 : ends[row]].tobytes()
        return out

    def cells(self, rows: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Return grids of vectors of rows; None if there is none."""
        side = self.manifest.cells
        if not side:
            return None
        out = np.empty((len(rows), side, side, self.manifest.dimension), np.float32)
        for segment, places, numbers in self.split(rows):
            if segment.cells is not None:
                codes, scales = segment.cells
                out[places] = codes[numbers] * scales[numbers][..., None]
        return out

    def numbers_of(self, which: Any) -> NDArray[np.int64]:
        """Return the numbers of rows given by number, by a flag for each row, or by id.

        Raises:
            ConfigError: there is no such row.
        """
        given = np.asarray(which)
        if given.dtype == bool:
            if given.shape != (self.manifest.rows,):
                raise ConfigError(
                    "there is one flag per row",
                    why=f"{given.shape} for {self.manifest.rows} rows",
                    fix="give a boolean array as long as the index",
                )
            return np.flatnonzero(given)
        if given.dtype.kind in "iu" or not given.size:
            rows = np.unique(given.astype(np.int64))
            self.split(rows)
            return rows
        wanted = {str(name) for name in given.ravel()}
        found, names = [np.empty(0, np.int64)], set()
        for segment, first in zip(self.segments, self.starts, strict=False):
            rows = segment.holds(key_of(list(wanted)))
            rows = rows[~np.isin(rows + first, self.deleted)]
            there = segment.table(rows).column("id").to_pylist()
            mine = np.array([name in wanted for name in there], bool)
            found.append(rows[mine] + first)
            names |= set(there)
        if wanted - names:
            raise ConfigError(
                "the index has no rows of these ids",
                where=", ".join(sorted(wanted - names)[:5]),
                fix="ids are in the column `id` of what index.search(...) finds",
            )
        return np.concatenate(found)


def threads() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _damaged(folder: Path, why: object) -> PackageError:
    fix = "see what else is damaged: geomm.retrieval.verify_index; build it again, or restore it from a copy"
    return PackageError("a file of the index is missing or damaged", where=str(folder), why=str(why), fix=fix)


def _nothing() -> Any:
    """Return the columns of an index without rows."""
    import pyarrow as pa

    return pa.schema([("id", pa.string()), ("geometry", pa.binary())])
