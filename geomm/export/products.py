"""Write a prediction as products: blocks aside first, then files, verified, then published, the STAC item last."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rasterio
from odc.geo.geobox import GeoBox

from geomm._version import __version__
from geomm.errors import ConfigError, GeommError, OutputError
from geomm.export.cog import spool_blocks, write_cog
from geomm.export.item import Provenance, file_of, stac_item
from geomm.export.polygons import class_areas, class_polygons, write_polygons
from geomm.export.publish import Product, publish
from geomm.export.quicklook import write_quicklook
from geomm.export.spool import GDAL_CACHE, Spool
from geomm.export.staging import staged
from geomm.export.style import aux_xml, qml
from geomm.export.zones import classify_zones
from geomm.types import LayerSpec, Prediction, Window, check_kind

type Stream = Iterable[tuple[Window, Prediction]]
"""Blocks of a map."""


@dataclass(frozen=True, slots=True)
class Further:
    """What is made of a class map, beside the map."""

    polygons: bool = False
    """Its polygons, as GeoPackage and GeoParquet."""
    zones: Any = None
    """GeoDataFrame of polygons that are told which classes lie in them; see :func:`geomm.export.classify_zones`."""


def write_products(
    blocks: Stream | Callable[[Collection[Window]], Stream],
    geobox: GeoBox,
    folder: str | Path,
    *,
    name: str,
    source: Provenance,
    resume: str = "",
    further: Further | None = None,
) -> Product:
    """Write a stream of predictions as COGs with sidecars, a quicklook and a STAC item.

    Blocks are written while the next ones are made. With ``resume``, those of a run that was stopped are found again.

    Args:
        blocks: windows of the grid with their predictions, in any order, that cover it; memory holds a few at a time.
            With ``resume``, a function of the windows that are there already, which returns the others.
        geobox: the grid.
        folder: where the products go; older products of that name are replaced.
        name: stem of every file and id of the item.
        source: provenance.
        resume: identity of all that decides the blocks; see :func:`identity_of`. Empty: a stopped run leaves nothing.
        further: what is made of the class map beside a quicklook.

    Returns:
        The published files.

    Raises:
        ConfigError: an argument is of another kind.
        OutputError: a name that is no file name, a folder that cannot be written, blocks that do not cover the grid, or
            another process that is writing this map. Nothing is left behind but, with ``resume``, whole blocks.
    """
    _check_kinds(blocks, name, source)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        raise OutputError("the name is not a safe file name", where=repr(name), fix="use letters, digits, . _ and -")
    if not hasattr(geobox, "affine"):
        fix = "give that of the cube: geomm.common_geobox(scenes), or geomm.cube.geobox_of(cube)"
        raise ConfigError("the grid is no GeoBox", where=repr(geobox)[:80], fix=fix)
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise OutputError("the output is a file", where=str(folder), fix="name a folder, such as maps")
    try:
        with staged(target, name, resume) as (spool_folder, staging):
            tags = {
                "TIFFTAG_SOFTWARE": f"geomm {__version__}",
                "TIFFTAG_DATETIME": source.time.strftime("%Y:%m:%d %H:%M:%S"),
                "GEOMM_MODEL_SHA256": source.model_sha256,
            }
            spool = Spool(spool_folder, geobox, tags)
            spool_blocks(spool, blocks(frozenset(spool.done)) if callable(blocks) else blocks)
            layers = [(layer, staging / f"{name}-{layer.name}.tif") for layer in spool.layers]
            for layer, path in layers:
                write_cog(spool, layer, path)
                _verify(path, layer, geobox)
                _sidecars(path, layer)
            extra = _further(layers, staging, name, further or Further())
            item = stac_item(layers, geobox, name=name, source=source, extra=extra)
            (staging / f"{name}.json").write_text(json.dumps(item, indent=2))
            return publish(staging, target, name, layers)
    except OSError as error:
        if isinstance(error, GeommError):
            raise
        raise OutputError(
            "the product cannot be written",
            where=str(folder),
            why=str(error),
            fix="name a folder that you may write to, and free space on its disk; then run the same again",
        ) from error


def _check_kinds(blocks: Any, name: Any, source: Any) -> None:
    if hasattr(blocks, "dims") or not (callable(blocks) or isinstance(blocks, Iterable)):
        fix = "give the stream itself in place of predict_map: write_products(geomm.predict(cube, package), ...)"
        raise ConfigError("products are written from a stream of blocks", why=f"got {type(blocks).__name__}", fix=fix)
    check_kind(name, str, "the name of a product is a text", fix='write name="clouds"')
    fix = "write source=Provenance(scenes[0].time)"
    check_kind(source, Provenance, "the source of a product is a Provenance", fix=fix)


def _sidecars(path: Path, layer: LayerSpec) -> None:
    """Write the style, and the names of the classes, beside a COG."""
    limits = layer.limits or (_stretch(path) if layer.kind == "continuous" else (0.0, 1.0))
    path.with_suffix(".qml").write_text(qml(layer, limits))
    if layer.kind == "class":
        Path(f"{path}.aux.xml").write_text(aux_xml(layer))


def _further(
    layers: Sequence[tuple[LayerSpec, Path]], staging: Path, name: str, further: Further
) -> dict[str, dict[str, Any]]:
    """Write what is made of a class map, and return the assets."""
    assets: dict[str, dict[str, Any]] = {}
    for layer, path in layers:
        if layer.kind != "class":
            continue
        picture = staging / f"{name}.png"
        write_quicklook(path, layer, picture)
        assets["thumbnail"] = file_of(picture, "Quicklook", "image/png", ["thumbnail"])
        if further.polygons:
            table = class_polygons(path, layer)
            areas = {"geomm:area_m2": class_areas(table, layer)}
            assets |= _vectors(table, layer, staging / f"{name}-polygons", "Polygons of the classes", areas)
        if further.zones is not None:
            found = classify_zones(path, layer, further.zones)
            assets |= _vectors(found, layer, staging / f"{name}-zones", "Classes of the zones", {})
    return assets


def _vectors(table: Any, layer: LayerSpec, stem: Path, title: str, about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Write a table and return its two assets."""
    try:
        package, parquet = write_polygons(table, layer, stem)
    except Exception as error:  # the drivers raise whatever they like
        raise OutputError(
            "the polygons cannot be written",
            where=stem.name,
            why=str(error),
            fix="free space on the disk, or leave the polygons out",
        ) from error
    key = stem.name.rpartition("-")[2]
    return {
        key: file_of(package, title, "application/geopackage+sqlite3", ["data"]) | about,
        f"{key}-parquet": file_of(parquet, title, "application/vnd.apache.parquet", ["data"]),
    }


def _verify(path: Path, layer: LayerSpec, geobox: GeoBox) -> None:
    """Open what was written and decode every block once."""
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), rasterio.open(path, driver="GTiff") as file:
        same = (
            file.shape == tuple(int(v) for v in geobox.shape)
            and file.transform == geobox.affine
            and file.count == len(layer.bands)
        )
        if not same:
            raise OutputError(
                "the written file is not what was asked for",
                where=str(path),
                why=str(file.profile),
                fix="run `geomm doctor`: it writes a GeoTIFF and reads it back",
            )
        for _, window in file.block_windows(1):
            file.read(window=window)


def _stretch(path: Path) -> tuple[float, float]:
    """Return the mean of a layer and what is four standard deviations above it, by the statistics that its file holds.

    Little of a picture has much of what was looked for; below the mean there is nothing to see.
    """
    with rasterio.open(path) as file:
        tags = file.tags(1)
    mean, std, top = (float(tags.get(f"STATISTICS_{n}", d)) for n, d in (("MEAN", 0), ("STDDEV", 0.25), ("MAXIMUM", 1)))
    return mean, max(min(mean + 4 * std, top), mean + 1e-6)
