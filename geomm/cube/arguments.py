"""Arguments that would be taken for something else are refused, with what to write in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from odc.geo.geobox import GeoBox

from geomm.catalog import Scene
from geomm.errors import CatalogError, ConfigError, GridError
from geomm.types import Modality

_RESERVED = {"x", "y", "time", "band", "spatial_ref"}


def scenes_of(given: Any) -> list[Scene]:
    """Return scenes as a list.

    Raises:
        CatalogError: there is none.
        ConfigError: they are something else, such as a path or a catalog.
    """
    if isinstance(given, Scene):
        raise ConfigError("scenes are a list", where=f"item {given.id}", fix="give a list: [scene]")
    if isinstance(given, (str, Path)) or not isinstance(given, Iterable):
        raise _no_scenes(given)
    scenes = list(given.values()) if isinstance(given, Mapping) else list(given)
    for one in scenes:
        if not isinstance(one, Scene):
            raise _no_scenes(one)
    if not scenes:
        raise CatalogError(
            "there is no scene",
            why="the search found nothing",
            fix="widen the area, the time or the sensors; an area is west, south, east, north: longitude first",
        )
    return scenes


def check_load(geobox: Any, *, modalities: Any, chunks: Any, quality: Any, errors: str, dtype: Any) -> None:
    """Check the arguments of :func:`geomm.load_cube`.

    Raises:
        ConfigError: one is of another kind.
        GridError: the grid is rotated or has no CRS.
    """
    _check_grid(geobox)
    _check_modalities(modalities)
    if isinstance(chunks, bool) or not isinstance(chunks, int) or chunks < 1:
        fix = "give the side of a block in pixels, for example chunks=512"
        raise ConfigError("chunks need a positive whole number", where=f"chunks {chunks!r}", fix=fix)
    if errors not in ("report", "raise"):
        raise ConfigError("errors are reported or raised", where=f"errors {errors!r}", fix="write 'report' or 'raise'")
    if dtype not in (None, "float32", "float64"):
        raise ConfigError("unknown dtype", where=f"dtype {dtype!r}", fix="'float32', 'float64', or leave it out")
    if isinstance(quality, (bool, str)) and quality not in ("apply", "ignore"):
        raise ConfigError("unknown quality", where=f"quality {quality!r}", fix="'apply', 'ignore', or classes or bits")


def _check_grid(geobox: Any) -> None:
    if not isinstance(geobox, GeoBox):
        raise ConfigError("the grid is no GeoBox", where=repr(geobox)[:80], fix="choose one: common_geobox(scenes)")
    if not geobox.axis_aligned or geobox.crs is None:
        fix = "choose one: common_geobox(scenes)"
        raise GridError("the target grid is rotated or has no CRS", where=str(geobox), fix=fix)


def _check_modalities(modalities: Any) -> None:
    if modalities is None:
        return
    if not isinstance(modalities, Mapping):
        raise ConfigError(
            "modalities are a mapping of names",
            where=repr(modalities)[:80],
            fix='write {"optical": Modality("sentinel2-l2a", ("B04", "B08"))}, or leave them out for all sensors',
        )
    for name, modality in modalities.items():
        if not isinstance(modality, Modality):
            fix = (
                f'write Modality("{modality}")' if isinstance(modality, str) else 'write Modality(SENSOR, ("B4", "B3"))'
            )
            raise ConfigError(
                f"modality {name} is no Modality", where=repr(modality)[:80], fix=f"{fix}, or with its bands"
            )
    if _RESERVED & set(modalities):
        raise ConfigError(
            f"a modality cannot be named {min(_RESERVED & set(modalities))}",
            why="it is the name of a coordinate",
            fix="name it otherwise, for example after its sensor",
        )


def _no_scenes(given: Any) -> ConfigError:
    fix = "give what search(...) of an opened catalog returns: geomm.open_catalog(PATH).search()"
    if isinstance(given, (str, Path)):
        fix = f"open it first: geomm.open_catalog({str(given)!r}).search()"
        if str(given).lower().endswith((".tif", ".tiff", ".jp2", ".vrt")):
            fix = "describe its folder first: geomm.build_catalog(FOLDER, 'my-catalog', sensors=[...]).search()"
    elif hasattr(given, "search"):
        fix = "search it first: catalog.search((west, south, east, north), '2024-06-01/2024-06-30')"
    return ConfigError("these are no scenes", where=repr(given)[:80], why=f"got {type(given).__name__}", fix=fix)
