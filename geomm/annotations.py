"""Text tied to place and time: read it, and ask for the text of a window.

Text that somebody wrote and text that was derived from labels are kept apart: ``derived`` says which is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geomm.errors import CatalogError
from geomm.types import BBox, ClassSpec


@dataclass(frozen=True, slots=True)
class Annotations:
    """A table of texts with footprints."""

    table: Any
    """GeoDataFrame in WGS 84 with columns ``text``, ``geometry``, ``derived`` and, where known, ``datetime``."""

    def __len__(self) -> int:
        return len(self.table)

    def at(self, bounds: BBox) -> tuple[str, ...]:
        """Return the texts whose footprint intersects a box of degrees, the best covered first.

        Args:
            bounds: west, south, east, north.
        """
        import shapely

        window = shapely.box(*bounds)
        hits = self.table[self.table.intersects(window)]
        share = shapely.area(shapely.intersection(hits.geometry.to_numpy(), window))
        return tuple(hits["text"].to_numpy()[np.argsort(-share, kind="stable")])


def read_annotations(path: str | Path, *, text: str = "text", time: str | None = None) -> Annotations:
    """Read annotations from GeoParquet, GeoJSON, GeoPackage or CSV.

    Args:
        path: the file; a CSV needs columns ``lon`` and ``lat``, or ``wkt``.
        text: column of the text.
        time: column of the time, if there is one.

    Raises:
        CatalogError: the file cannot be read, lacks a column, or has no CRS.
    """
    import geopandas
    import pandas as pd

    file = Path(path)
    try:
        if file.suffix == ".parquet":
            table = geopandas.read_parquet(file)
        elif file.suffix == ".csv":
            rows = pd.read_csv(file)
            geometry = (
                geopandas.GeoSeries.from_wkt(rows.pop("wkt"))
                if "wkt" in rows
                else geopandas.points_from_xy(rows["lon"], rows["lat"])
            )
            table = geopandas.GeoDataFrame(rows, geometry=geometry, crs="EPSG:4326")
        else:
            table = geopandas.read_file(file)
        columns = {text: "text"} | ({time: "datetime"} if time else {})
        table = table[[*columns, "geometry"]].rename(columns=columns)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CatalogError("the annotations cannot be read", where=str(path), why=str(error)) from error
    if table.crs is None:
        raise CatalogError("the annotations have no CRS", where=str(path), fix="set one with GeoDataFrame.set_crs")
    return Annotations(table.to_crs("EPSG:4326").assign(derived=False))


def derive_text(fractions: Sequence[float], classes: Sequence[ClassSpec]) -> str:
    """Describe a chip by its label fractions, for places where nobody wrote a text. Mark it as derived.

    >>> from geomm.types import ClassSpec
    >>> derive_text([0.7, 0.3], [ClassSpec(1, "water", "#0000ff"), ClassSpec(2, "trees", "#00ff00")])
    'mostly water, some trees'
    """
    words = []
    for k in np.argsort(-np.asarray(fractions), kind="stable"):
        share = fractions[k]
        if share >= 0.05:
            words.append(f"{'only' if share > 0.95 else 'mostly' if share >= 0.5 else 'some'} {classes[k].name}")
    return ", ".join(words) or "nothing labelled"
