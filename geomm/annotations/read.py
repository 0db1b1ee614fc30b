"""Text that somebody wrote: from files, items and question sets."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomm.annotations.table import Annotations, complete
from geomm.catalog import Scene, probe
from geomm.errors import CatalogError, ConfigError


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
            table = geopandas.GeoDataFrame(rows, geometry=_places(rows, file), crs="EPSG:4326")
        else:
            table = geopandas.read_file(file)
        mine = table[[*(c for c in (text, time) if c is not None), table.geometry.name]]
    except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError(
            "the annotations cannot be read",
            where=str(path),
            why=f"{type(error).__name__}: {error}",
            fix=f"it needs a column {text!r}, and a CSV lon and lat, or wkt",
        ) from error
    return Annotations.of(mine, text=text, time=time, source=file.name)


def _places(rows: Any, file: Path) -> Any:
    """Return the geometries of a CSV's rows.

    Raises:
        CatalogError: a row has none.
    """
    import geopandas
    import pandas as pd

    if "wkt" in rows:
        found = geopandas.GeoSeries.from_wkt(rows["wkt"].astype("object"), on_invalid="ignore")
        lacking, fix = found.isna() | found.is_empty, "write it as POINT (9.0 46.0), longitude first"
        given = rows["wkt"]
    else:
        lon, lat = (pd.to_numeric(rows[n], errors="coerce") for n in ("lon", "lat"))
        found = geopandas.points_from_xy(lon, lat)
        lacking, fix = lon.isna() | lat.isna(), "write both as numbers of degrees"
        given = rows["lon"].astype(str) + ", " + rows["lat"].astype(str)
    if lacking.any():
        row = int(np.argmax(lacking))
        where, why = f"{file}, line {row + 2}", f"it has {given[row]!r}"[:80]
        raise CatalogError("a text has no place", where=where, why=why, fix=f"{fix}, or remove the line")
    return found


def annotations_of(scenes: Sequence[Scene]) -> Annotations:
    """Return the descriptions of STAC items as annotations: one for every item that has a text.

    Raises:
        ConfigError: these are no scenes.
    """
    import geopandas
    from shapely.geometry import shape

    if not isinstance(scenes, Sequence) or not all(isinstance(s, Scene) for s in scenes):
        fix = "give what catalog.search() found; of one scene, [scene]"
        raise ConfigError("scenes are a list of Scene", where=type(scenes).__name__, fix=fix)

    told = list({s.id: s for s in scenes if s.text}.values())
    rows = {"text": [s.text for s in told], "datetime": [s.time for s in told], "source": [s.id for s in told]}
    return complete(geopandas.GeoDataFrame(rows, geometry=[shape(s.footprint) for s in told], crs="EPSG:4326"))


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
    return complete(geopandas.GeoDataFrame(rows, geometry=[footprints[q["img_id"]] for q in asked], crs="EPSG:4326"))


def _date_in(name: str) -> dt.datetime | None:
    """Return the first date in a product's name."""
    match = re.search(r"(?<!\d)((?:19|20)\d{6})T(\d{6})", name)
    return dt.datetime.strptime(match[1] + match[2], "%Y%m%d%H%M%S").replace(tzinfo=dt.UTC) if match else None
