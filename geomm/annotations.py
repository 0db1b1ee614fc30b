"""Text tied to place and time: read it from files, items and question sets, and ask for the text of a window.

Text that somebody wrote and text that was derived from labels are kept apart: ``derived`` says which is which.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from geomm.catalog import Grid, Scene, degrees_of, probe
from geomm.errors import CatalogError
from geomm.types import BBox, ClassSpec

COLUMNS = ("text", "answer", "derived", "datetime", "source", "geometry")
"""Columns of every table of annotations."""


@dataclass(frozen=True, slots=True)
class Note:
    """A text about a window."""

    text: str
    """What is said, or asked."""
    answer: str = ""
    """Answer, where the text is a question."""
    derived: bool = False
    """Whether it was made from labels rather than written by somebody."""
    time: dt.datetime | None = None
    """When it is true, UTC; None where that is unknown."""
    source: str = ""
    """File, item or image that it comes from."""
    share: float = 0.0
    """Part of the window that its footprint covers, 0 to 1; 0 for points."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """A table of texts with footprints."""

    table: Any
    """GeoDataFrame in WGS 84 with the columns :data:`COLUMNS`; ``datetime`` is NaT, ``answer`` empty where unknown."""

    def __len__(self) -> int:
        return len(self.table)

    def __add__(self, other: Annotations) -> Annotations:
        import pandas as pd

        parts = [t for t in (self.table, other.table) if len(t)]
        return Annotations(pd.concat(parts, ignore_index=True)) if parts else self

    def at(self, window: Any, time: str | None = None, *, within: float | None = None) -> tuple[str, ...]:
        """Return the texts of a window, see :meth:`find`."""
        return tuple(note.text for note in self.find(window, time, within=within))

    def find(self, window: Any, time: str | None = None, *, within: float | None = None) -> tuple[Note, ...]:
        """Return the notes whose footprint touches a window, the best covered first.

        Args:
            window: west, south, east, north in degrees (west greater than east across the antimeridian), a GeoBox such
                as that of a cube or of a chip, or a geometry in degrees.
            time: such as ``2024-05-31``; notes of an unknown time are always true. None for any time.
            within: greatest distance from ``time`` in days; default one day.
        """
        import pandas as pd
        import shapely

        area = _area(window)
        rows = self.table.iloc[np.sort(self.table.sindex.query(area, predicate="intersects"))]
        if time is not None:
            moment = pd.Timestamp(time)
            moment = moment.tz_localize("UTC") if moment.tz is None else moment.tz_convert("UTC")
            away = (rows["datetime"] - moment).abs()
            rows = rows[rows["datetime"].isna() | (away <= pd.Timedelta(days=1.0 if within is None else within))]
        share = shapely.area(shapely.intersection(rows.geometry.to_numpy(), area)) / max(area.area, 1e-300)
        order = np.argsort(-share, kind="stable")
        return tuple(
            Note(
                str(row.text),
                str(row.answer),
                bool(row.derived),
                None if pd.isna(row.datetime) else row.datetime.to_pydatetime(),
                str(row.source),
                float(part),
            )
            for row, part in zip(rows.iloc[order].itertuples(), share[order], strict=True)
        )


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

    if not isinstance(path, (str, Path)) or not Path(path).exists():
        fix = "give a GeoJSON, GeoPackage, GeoParquet or CSV file; a relative path counts from the current folder"
        raise CatalogError("the annotations cannot be read", where=repr(path), why="there is no such file", fix=fix)
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
        if time:
            table["datetime"] = pd.to_datetime(table["datetime"], utc=True, format="ISO8601")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CatalogError(
            "the annotations cannot be read",
            where=str(path),
            why=f"{type(error).__name__}: {error}",
            fix=f"it needs a column {text!r}, and a CSV lon and lat, or wkt",
        ) from error
    if table.crs is None:
        raise CatalogError("the annotations have no CRS", where=str(path), fix="set one with GeoDataFrame.set_crs")
    west, south, east, north = table.total_bounds
    if table.crs.is_geographic and (max(-south, north) > 90.0 or max(-west, east) > 360.0):
        raise CatalogError(
            "the annotations lie beside the globe",
            where=f"{path}, bounds {tuple(round(float(v), 3) for v in (west, south, east, north))}",
            why="latitudes go from -90 to 90 degrees",
            fix="did you swap lon and lat? If the file is in metres, set its CRS",
        )
    table = table[table["text"].notna() & ~table.geometry.is_empty & table.geometry.notna()]
    table = table.set_geometry(table.geometry.make_valid())
    return _annotations(table.to_crs("EPSG:4326").assign(source=file.name))


def annotations_of(scenes: Sequence[Scene]) -> Annotations:
    """Return the descriptions of STAC items as annotations: one for every item that has a text."""
    import geopandas
    from shapely.geometry import shape

    told = list({s.id: s for s in scenes if s.text}.values())
    rows = {"text": [s.text for s in told], "datetime": [s.time for s in told], "source": [s.id for s in told]}
    return _annotations(geopandas.GeoDataFrame(rows, geometry=[shape(s.footprint) for s in told], crs="EPSG:4326"))


def read_questions(folder: str | Path, split: str, *, images: str | Path | None = None) -> Annotations:
    """Read question and answer pairs in the layout of RSVQA (Lobry et al. 2020): text that people can check.

    Args:
        folder: holds ``<split>_images.json``, ``<split>_questions.json`` and ``<split>_answers.json``.
        split: such as ``LR_split_train``.
        images: folder of the georeferenced images ``<id>.tif``; default ``images`` beside the JSON files.

    Returns:
        One row per active question: its text, its answer, and the footprint of its image.

    Raises:
        CatalogError: a file is missing or cannot be understood.
        GridError: an image is not georeferenced.
    """
    import geopandas
    import shapely

    place = Path(folder)
    pictures = Path(images) if images else place / "images"
    try:
        tables = {
            kind: {e["id"]: e for e in json.loads((place / f"{split}_{kind}.json").read_text())[kind] if e["active"]}
            for kind in ("images", "questions", "answers")
        }
        asked = [q for q in tables["questions"].values() if q["img_id"] in tables["images"] and q["answers_ids"]]
        replies = [tables["answers"][q["answers_ids"][0]]["answer"] for q in asked]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CatalogError(
            "the questions cannot be read",
            where=f"{place}/{split}_*.json",
            why=f"{type(error).__name__}: {error}",
            fix="have the files of the question set delivered again; python -m json.tool FILE shows the place",
        ) from error
    names = sorted({q["img_id"] for q in asked})
    footprints = {n: shapely.box(*probe(pictures / f"{n}.tif").bbox) for n in names}
    times = {n: _date_in(str(tables["images"][n].get("original_name", ""))) for n in names}
    rows = {
        "text": [q["question"] for q in asked],
        "answer": replies,
        "datetime": [times[q["img_id"]] for q in asked],
        "source": [f"{q['img_id']}.tif" for q in asked],
    }
    return _annotations(
        geopandas.GeoDataFrame(rows, geometry=[footprints[q["img_id"]] for q in asked], crs="EPSG:4326")
    )


def derive_annotations(
    fractions: Sequence[Sequence[float]],
    windows: Sequence[Any],
    classes: Sequence[ClassSpec],
    *,
    time: dt.datetime | None = None,
    source: str = "labels",
) -> Annotations:
    """Make text from labels, for places where nobody wrote any; every row says that it is derived.

    Args:
        fractions: ``(window, class)``, parts of each window's valid pixels.
        windows: boxes of degrees, GeoBoxes or geometries.
        classes: in the order of the fractions.
        time: of the labels.
        source: where they come from.
    """
    import geopandas

    rows = {"text": [derive_text(f, classes) for f in fractions], "derived": True, "datetime": time, "source": source}
    geometry = [_area(w) for w in windows]
    return _annotations(geopandas.GeoDataFrame(rows, geometry=geometry, crs="EPSG:4326"))


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


def _annotations(table: Any) -> Annotations:
    """Give a table all columns, with their types."""
    import pandas as pd

    table = table.reset_index(drop=True)
    for name, missing in (("answer", ""), ("derived", False), ("datetime", pd.NaT), ("source", "")):
        if name not in table:
            table[name] = missing
    table["datetime"] = pd.to_datetime(table["datetime"], utc=True).astype("datetime64[us, UTC]")
    return Annotations(table[list(COLUMNS)])


def _area(window: Any) -> Any:
    """Return a window as a geometry in degrees."""
    import shapely
    from shapely.geometry import shape

    if hasattr(window, "geographic_extent"):
        box = degrees_of(Grid(str(window.crs), tuple(window.affine[:6]), tuple(window.shape)))
        if box[0] <= box[2]:
            return window.geographic_extent.geom
        window = box  # across the antimeridian an outline of degrees would span the globe
    if hasattr(window, "__geo_interface__") or isinstance(window, dict):
        return shape(window)
    west, south, east, north = _box(window)
    if west <= east:
        return shapely.box(west, south, east, north)
    return shapely.MultiPolygon([shapely.box(west, south, 180.0, north), shapely.box(-180.0, south, east, north)])


def _box(window: Any) -> BBox:
    if not hasattr(window, "__len__") or len(window) != 4:
        raise CatalogError(
            "a window has four bounds", where=str(type(window).__name__), fix="give west, south, east, north"
        )
    west, south, east, north = (float(v) for v in window)
    return west, south, east, north


def _date_in(name: str) -> dt.datetime | None:
    """Return the first date in a product's name."""
    match = re.search(r"(?<!\d)((?:19|20)\d{6})T(\d{6})", name)
    return dt.datetime.strptime(match[1] + match[2], "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC) if match else None
