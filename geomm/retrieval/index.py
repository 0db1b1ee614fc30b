"""An index of embedded places on disk: append, delete, search."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError
from geomm.retrieval import writing
from geomm.retrieval.codes import Coded
from geomm.retrieval.filters import Filter
from geomm.retrieval.find import find
from geomm.retrieval.incoming import incoming, unit
from geomm.retrieval.manifest import Manifest, folder_of
from geomm.retrieval.query import Embedder, Method, embed, plain, row_numbers
from geomm.retrieval.snapshot import Snapshot, threads
from geomm.types import BBox, check_whole


class Index:
    """Unit vectors with footprints, times, and whatever else is known of them.

    An opened index is as it was when it was opened; only its own writing changes it. Rows have numbers, which stay
    until :meth:`compact`.
    """

    embedder: Embedder | None = None
    """Makes vectors of queries that are none."""

    def __init__(self, folder: str | Path, snapshot: Snapshot) -> None:
        self.folder, self.snapshot = Path(folder), snapshot
        self._lock = writing.lock_of(self.folder)

    @classmethod
    def create(cls, folder: str | Path, dimension: int, *, about: Mapping[str, Any] | None = None) -> Index:
        """Make an empty index.

        Args:
            folder: that does not exist, or is empty.
            dimension: length of the vectors.
            about: whatever is worth keeping, as JSON; ``model_sha256`` is the hash of the model of the vectors.

        Raises:
            ConfigError: the dimension is below 1, or ``about`` is not JSON.
            OutputError: the folder holds something, or cannot be written.
        """
        fix = "give the number of values of a vector of your model, for example 512"
        check_whole({"dimension": dimension}, least=None, fix=fix)
        if dimension < 1:
            raise ConfigError("vectors have at least one number", where=f"dimension {dimension}", fix=fix)
        writing.create(Path(folder), Manifest(dimension, plain(about or {}, "about")))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Open an index; files are mapped into memory, and their sizes are checked.

        Raises:
            PackageError: this is no index, it is of another format, or a file is missing or of another size.
        """
        return cls(folder_of(folder), Snapshot.open(folder_of(folder)))

    def __len__(self) -> int:
        return self.snapshot.manifest.rows - len(self.snapshot.deleted)

    def __repr__(self) -> str:
        return f"Index({str(self.folder)!r}, {len(self)} rows of {self.dimension})"

    def _repr_html_(self) -> str:
        from geomm.retrieval.look import index_card

        return index_card(self)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return self.snapshot.manifest.dimension

    @property
    def about(self) -> dict[str, Any]:
        """What was given when the index was made."""
        return dict(self.snapshot.manifest.about)

    @property
    def jobs(self) -> dict[str, Any]:
        """What was given with appended rows."""
        return dict(self.snapshot.manifest.jobs)

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of all rows that are not deleted, ascending."""
        return np.setdiff1d(np.arange(self.snapshot.manifest.rows), self.snapshot.deleted, assume_unique=True)

    @property
    def listed(self) -> int:
        """How many rows, from the first, approximate search finds without scanning them all."""
        return 0 if self.snapshot.lists is None else len(self.snapshot.lists.codes)

    def search(
        self,
        query: Any,
        *,
        k: int = 10,
        aoi: BBox | Any | None = None,
        datetime: str | None = None,
        sensors: Sequence[str] = (),
        method: Method = "auto",
    ) -> Any:
        """Find the rows most similar to a query.

        Args:
            query: vector ``(D,)`` of any length but zero; a text or anything else goes to ``embedder``.
            k: number of hits, at least 1.
            aoi: west, south, east, north in degrees, west greater than east across the antimeridian; or a
                geometry in degrees (shapely or GeoJSON); rows that intersect it are compared.
            datetime: an instant or an interval ``start/end`` in RFC 3339 (``..`` leaves an end open).
            sensors: rows that were made of nothing but these are compared; empty for all.
            method: ``exact``; ``ann``, which looks into the most promising lists of :meth:`build_ann`; or ``auto``:
                exact up to a few hundred thousand rows that match, and above that approximate.

        Returns:
            GeoDataFrame of at most ``k`` rows, indexed by their numbers, with a column ``score`` (cosine, float32),
            best first, ties by row.

        Raises:
            ConfigError: the query or a filter cannot be understood or does not fit.
        """
        vector = embed(query, self.embedder)
        wanted = Filter.of(aoi, datetime, sensors)
        ((rows, scores),) = self._find(vector[None], k, wanted, method)
        return self.snapshot.table(rows, scores)

    def search_many(
        self,
        queries: NDArray[Any],
        *,
        k: int = 10,
        aoi: BBox | Any | None = None,
        datetime: str | None = None,
        sensors: Sequence[str] = (),
        method: Method = "auto",
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Find the rows most similar to each of many queries; see :meth:`search`.

        Args:
            queries: vectors ``(Q, D)``.
            k: number of hits.
            aoi: place.
            datetime: time.
            sensors: names.
            method: how to search.

        Returns:
            Numbers of rows ``(Q, k)``, -1 where there are fewer, and scores ``(Q, k)``, NaN there.
        """
        found = self._find(np.asarray(queries), k, Filter.of(aoi, datetime, sensors), method)
        rows, scores = np.full((len(found), k), -1, np.int64), np.full((len(found), k), np.nan, np.float32)
        for n, (best, values) in enumerate(found):
            rows[n, : len(best)], scores[n, : len(best)] = best, values
        return rows, scores

    def rows(self, numbers: Any) -> Any:
        """Return rows by their numbers, in that order, as a GeoDataFrame indexed by them."""
        return self.snapshot.table(row_numbers(numbers))

    def vectors(self, numbers: Any) -> NDArray[np.float32]:
        """Return vectors ``(n, D)`` of rows by their numbers."""
        return self.snapshot.vectors(row_numbers(numbers))

    def pictures(self, numbers: Any) -> list[bytes]:
        """Return the pictures of rows by their numbers; empty where a row has none."""
        return self.snapshot.pictures(row_numbers(numbers))

    def cells(self, numbers: Any) -> NDArray[np.float32] | None:
        """Return the grids of vectors ``(n, g, g, D)`` of rows by their numbers; None if the index has none."""
        return self.snapshot.cells(row_numbers(numbers))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Keep other writers out while several things are written; each of these is whole by itself.

        Raises:
            OutputError: another writer is at work.
        """
        with writing.held(self._lock, self.folder):
            self.reload()
            yield

    def reload(self) -> None:
        """See what others wrote since."""
        self.snapshot = Snapshot.open(self.folder, self.snapshot)

    def append(
        self,
        vectors: Any,
        table: Any,
        *,
        pictures: Sequence[bytes] | None = None,
        cells: Any | None = None,
        jobs: Mapping[str, Any] | None = None,
    ) -> None:
        """Add rows; they are there whole, with their jobs, or not at all.

        Args:
            vectors: ``(n, D)``, of any length but zero.
            table: GeoDataFrame of ``n`` rows with a text ``id`` that no other row has; optionally ``datetime`` (UTC
                where it does not say) and ``sensors`` (names joined by commas), and anything else.
            pictures: PNG of each row; all rows of an index have some, or none has.
            cells: ``(n, g, g, D)``: vectors of places within each row's image; the same holds.
            jobs: name -> JSON, kept with those that are there.

        Raises:
            ConfigError: something does not fit, or an id is there already; nothing is written.
            OutputError: another writer is at work, or the folder cannot be written.
        """
        named = plain(jobs or {}, "jobs")
        rows = incoming(vectors, table, self.dimension, pictures=pictures, cells=cells)
        with self.writing():
            writing.append(self.snapshot, rows, named, self.pool)
            self.reload()
            while writing.tidy(self.snapshot, self.pool):
                self.reload()

    def delete(self, which: Any) -> int:
        """Delete rows; they leave the disk with :meth:`compact`.

        Args:
            which: numbers of rows, a bool for each row, or ids.

        Returns:
            How many were there.

        Raises:
            ConfigError: there is no such row.
            OutputError: as :meth:`append`.
        """
        with self.writing():
            rows = self.snapshot.numbers_of(which)
            rows = np.setdiff1d(rows, self.snapshot.deleted)
            if rows.size:
                writing.delete(self.snapshot, rows)
                self.reload()
        return int(rows.size)

    def compact(self) -> None:
        """Write all rows that are not deleted into as few segments as may be, and make the lists anew if there are any.

        Raises:
            OutputError: as :meth:`append`.
        """
        with self.writing():
            again = self.snapshot.lists is not None
            writing.compact(self.snapshot, self.pool)
            self.reload()
            if again:
                self.build_ann()

    def build_ann(self) -> None:
        """Sort all rows into lists of similar ones, for approximate search; rows appended later are scanned besides.

        Raises:
            OutputError: as :meth:`append`.
        """
        from geomm.retrieval.learn import build_lists

        with self.writing():
            build_lists(self.snapshot, self.pool)
            self.reload()

    @cached_property
    def pool(self) -> ThreadPoolExecutor:
        """Threads, one for each processor."""
        return ThreadPoolExecutor(threads(), thread_name_prefix="geomm-index")

    def _find(
        self, queries: NDArray[Any], k: int, wanted: Filter | None, method: Method
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        fix = "give k as a whole number of at least 1, and embed the query with the index's own model"
        check_whole({"k": k}, least=None, fix=fix)
        if k < 1 or queries.ndim != 2 or queries.shape[1] != self.dimension or queries.dtype.kind not in "fiu":
            raise ConfigError(
                "the query does not fit the index",
                why=f"k {k}, query {queries.shape[1:]} of {queries.dtype}, vectors of {self.dimension}",
                fix=fix,
            )
        if method not in {"auto", "exact", "ann"}:
            raise ConfigError(f"there is no method {method!r}", fix="say auto, exact or ann")
        coded = Coded.of(unit(queries, "give a query without NaN that is not all zero; the index embeds texts itself"))
        return find(self.snapshot, self.snapshot.choices(wanted, self.pool), coded, k, method, self.pool)
