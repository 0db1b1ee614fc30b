"""An index of embedded places: build, save, search. Filter by place first, then exact search over what is left."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geomm.errors import ConfigError, OutputError, PackageError
from geomm.types import BBox


@dataclass(frozen=True, slots=True)
class Index:
    """Unit vectors with footprints."""

    vectors: np.ndarray
    """Float32 ``(N, D)``, rows of unit length."""
    table: Any
    """GeoDataFrame in WGS 84, one row per vector: footprint, and whatever else was given (text, item, time)."""
    model_sha256: str = ""
    """Hash of the model that made the vectors; queries must come from the same."""

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.table):
            raise ConfigError(
                "an index needs one vector per row",
                why=f"vectors {self.vectors.shape}, table of {len(self.table)} rows",
            )

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, query: np.ndarray, *, k: int = 10, aoi: BBox | None = None) -> Any:
        """Find the rows most similar to a query.

        Args:
            query: vector ``(D,)``, of any length but zero.
            k: number of hits, at least 1.
            aoi: west, south, east, north in degrees; only rows that intersect it are compared.

        Returns:
            GeoDataFrame of at most ``k`` rows with a column ``score`` (cosine), best first, ties by row.

        Raises:
            ConfigError: k below 1, or a query of another length.
        """
        if k < 1 or query.shape != self.vectors.shape[1:]:
            raise ConfigError(
                "the query does not fit the index",
                why=f"k {k}, query {query.shape}, vectors of {self.vectors.shape[1]}",
                fix="give k of at least 1 and embed the query with the index's own model",
            )
        rows = np.arange(len(self))
        if aoi is not None:
            from shapely.geometry import box

            rows = rows[self.table.intersects(box(*aoi)).to_numpy()]
        unit = query.astype(np.float32) / np.linalg.norm(query)
        scores = self.vectors[rows] @ unit
        best = np.lexsort((rows, -scores))[:k]
        return self.table.iloc[rows[best]].assign(score=scores[best])

    def save(self, folder: str | Path) -> Path:
        """Write the index; it appears whole or not at all.

        Raises:
            OutputError: the folder exists already, or cannot be written.
        """
        target = Path(folder)
        if target.exists():
            raise OutputError("the index exists already", where=str(folder), fix="name another folder")
        staging = target.with_name(f".{target.name}.staging-{os.getpid()}")
        try:
            staging.mkdir(parents=True)
            np.save(staging / "vectors.npy", self.vectors.astype(np.float16), allow_pickle=False)
            self.table.to_parquet(staging / "rows.parquet")
            sums = {n: _sha256(staging / n) for n in ("vectors.npy", "rows.parquet")}
            (staging / "index.json").write_text(json.dumps({"model_sha256": self.model_sha256, "sha256": sums}))
            staging.rename(target)
        except OSError as error:
            raise OutputError("the index cannot be written", where=str(folder), why=str(error)) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return target

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Open a saved index and verify its checksums.

        Raises:
            PackageError: a file is missing or was changed.
        """
        import geopandas

        path = Path(folder)
        try:
            about = json.loads((path / "index.json").read_text())
            for name, digest in about["sha256"].items():
                if _sha256(path / name) != digest:
                    raise PackageError("a file of the index was changed", where=str(path / name), fix="build it again")
            vectors = np.load(path / "vectors.npy", allow_pickle=False).astype(np.float32)
        except (OSError, ValueError, KeyError) as error:
            if isinstance(error, PackageError):
                raise
            raise PackageError("this is not an index", where=str(folder), why=str(error)) from error
        return cls(vectors, geopandas.read_parquet(path / "rows.parquet"), about["model_sha256"])


def build_index(vectors: Sequence[np.ndarray], table: Any, *, model_sha256: str = "") -> Index:
    """Make an index of embeddings; rows are scaled to unit length.

    Args:
        vectors: one ``(D,)`` per row.
        table: GeoDataFrame with footprints, any CRS.
        model_sha256: hash of the model.

    Raises:
        ConfigError: a vector of length zero.
    """
    stacked = np.stack(vectors).astype(np.float32)
    length = np.linalg.norm(stacked, axis=1, keepdims=True)
    if not (length > 0).all():
        raise ConfigError("a vector of length zero cannot be indexed", where=f"row {int(np.argmin(length))}")
    return Index(stacked / length, table.to_crs("EPSG:4326"), model_sha256)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
