"""Arguments that would be taken for something else are refused, with what to write in their place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geomm.catalog import Scene
from geomm.errors import CatalogError, ConfigError, GridError, UnknownNameError
from geomm.radiometry import Calibration
from geomm.sensors import QualityRule
from geomm.types import Modality

_DEGREE = 111_320.0
"""Metres of a degree of latitude."""
_UNEVEN = 0.25
"""Part of a step that a coordinate may be off: those in degrees are sometimes kept as float32."""
_LAST = {"scl": (11, "class"), "qa_pixel": (15, "bit"), "bqa": (3, "bit")}
"""Greatest code of what each rule counts."""
_RESERVED = {"x", "y", "time", "band", "spatial_ref"}


def scenes_of(given: Any) -> list[Scene]:
    """Return scenes as a list.

    Raises:
        CatalogError: there is none.
        ConfigError: they are something else, such as a path or a catalog.
    """
    if isinstance(given, Scene):
        raise ConfigError("scenes are a list", where=f"item {given.id}", fix="give a list: [scene]")
    if isinstance(given, (str, Path)) or not isinstance(given, Iterable) or hasattr(given, "columns"):
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
        fix = "give the side of a block in whole pixels, for example chunks=512"
        raise ConfigError("chunks need a positive size", where=f"chunks {chunks!r}", fix=fix)
    if errors not in ("report", "raise"):
        raise ConfigError("errors are reported or raised", where=f"errors {errors!r}", fix="write 'report' or 'raise'")
    if dtype not in (None, "float32", "float64"):
        raise ConfigError("unknown dtype", where=f"dtype {dtype!r}", fix="'float32', 'float64', or leave it out")
    if not isinstance(quality, (str, Sequence)) or (isinstance(quality, str) and quality not in ("apply", "ignore")):
        raise ConfigError("unknown quality", where=f"quality {quality!r}", fix="'apply', 'ignore', or classes or bits")


def check_codes(quality: Sequence[Any], rule: QualityRule) -> None:
    """Refuse classes or bits that a quality band does not have.

    Raises:
        ConfigError: there is one.
    """
    last, kind = _LAST[rule.rule]
    for code in quality:
        if isinstance(code, bool) or not isinstance(code, (int, np.integer)) or not 0 <= code <= last:
            raise ConfigError(
                f"the quality band has no such {kind}",
                where=f"quality {code!r}, band {rule.band}",
                fix=f"name {kind}s by number, 0 to {last}; or write 'apply' for the usual ones, 'ignore' for none",
            )


def cube_of(given: Any) -> Any:
    """Return a cube.

    Raises:
        ConfigError: it is something else, such as one node of a cube.
    """
    if hasattr(given, "children") and (given.children or not given.to_dataset().data_vars):
        return given
    fix = "give what geomm.load_cube(scenes, grid) returns"
    if hasattr(given, "children") or hasattr(given, "data_vars"):
        fix = "give the whole cube, or make one of the node: xarray.DataTree.from_dict({'/NAME': node})"
    why = f"a cube is an xarray.DataTree with a node for every modality; got {type(given).__name__}"
    raise ConfigError("this is no cube", where=repr(given)[:60].replace("\n", " "), why=why, fix=fix)


def check_axes(dataset: Any) -> None:
    """Refuse coordinates that are not those of a cube: see :func:`check_even`; rows go south and columns east.

    Raises:
        GridError: they are not.
    """
    check_even(dataset)
    for name, down in zip(dataset.odc.spatial_dims or (), (True, False), strict=False):
        at = dataset[name].to_numpy()
        if name in dataset.coords and at.size > 1 and (at[-1] > at[0]) == down:
            fix = f"turn it: .isel({name}=slice(None, None, -1))"
            raise GridError(
                "the grid is turned", where=f"coordinate {name}", why=f"it goes {'north' if down else 'west'}", fix=fix
            )


def check_even(dataset: Any) -> None:
    """Refuse what a selection has left no grid of: no row or column, a single one without its dimension, chosen ones.

    Raises:
        GridError: ``y`` or ``x`` is no dimension, empty or not evenly spaced.
    """
    for name, down in zip(dataset.odc.spatial_dims or ("y", "x"), (True, False), strict=True):
        if name not in dataset.dims:
            if name in dataset.coords:
                fix = f"choose a slice, which keeps the dimension: .isel({name}=slice(5, 6))"
                raise GridError("there is no grid", why=f"there is one {name} and no dimension of it", fix=fix)
            continue
        at = np.asarray(dataset[name].to_numpy(), np.float64)
        if not at.size:
            fix = "of y the north comes first: .sel(y=slice(north, south))" if down else f"choose more of {name}"
            raise GridError("there is no pixel", why=f"no {name} is left", fix=fix)
        even = np.linspace(at[0], at[-1], at.size)  # without a coordinate: counted, and so even
        if at.size > 2 and np.abs(at - even).max() > _UNEVEN * abs(even[1] - even[0]):
            fix = f"choose every n-th: .isel({name}=slice(None, None, n)); or resample it: .odc.reproject(geobox)"
            raise GridError("the pixels are not evenly spaced", where=f"coordinate {name}", fix=fix)


def check_size(resolution: Any) -> None:
    """Refuse what is no size of a pixel.

    Raises:
        GridError: it is not a positive number.
    """
    number = isinstance(resolution, Real) and not isinstance(resolution, bool)
    if resolution is None or (number and 0 < resolution < math.inf):
        return
    fix = "give one number in units of the CRS: resolution=10 for 10 m in UTM, 0.0001 for about 10 m in degrees"
    raise GridError("the pixel size is not positive, or no number", where=f"resolution {resolution!r}", fix=fix)


def check_scale(resolution: float, bounds: Any, crs: Any, finest: float) -> None:
    """Refuse a pixel size in the wrong unit: metres for degrees, or the other way round.

    Args:
        resolution: in units of the CRS.
        bounds: of the grid to be, in units of the CRS.
        crs: of the grid.
        finest: pixel of the imagery on the ground in metres.

    Raises:
        GridError: a pixel is larger than all of the imagery, or a thousandth of one of the imagery.
    """
    metres = resolution * (_DEGREE if crs.geographic else 1.0)
    large = resolution > max(bounds.right - bounds.left, bounds.top - bounds.bottom) and metres > 10 * finest
    if not large and metres * 1000 > finest:
        return
    unit = "degrees" if crs.geographic else "units of the CRS, mostly metres"
    right = f"{finest / _DEGREE:.2g}" if crs.geographic else f"{finest:g}"
    raise GridError(
        "a pixel is larger than all of the imagery" if large else "a pixel is a thousandth of one of the imagery",
        where=f"resolution {resolution:g} in CRS {crs}",
        why=f"it counts {unit}",
        fix=f"for the imagery's own {finest:g} m give resolution={right}" + ", or crs='utm'" * crs.geographic,
    )


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
        check_name(name)
        if not isinstance(modality, Modality):
            fix = (
                f'write Modality("{modality}")' if isinstance(modality, str) else 'write Modality(SENSOR, ("B4", "B3"))'
            )
            raise ConfigError(
                f"modality {name} is no Modality", where=repr(modality)[:80], fix=f"{fix}, or with its bands"
            )


def check_arrays(arrays: Any, sensors: Any, calibration: Any) -> None:
    """Check the arguments of :func:`geomm.from_xarray` that go by the name of a modality.

    Raises:
        ConfigError: one does not, or there is no array.
        UnknownNameError: a sensor or a calibration is of no array.
    """
    if not isinstance(arrays, Mapping) or not isinstance(sensors, Mapping):
        fix = 'write from_xarray({"optical": array}, {"optical": "sentinel2-l2a"})'
        raise ConfigError("arrays and sensors go by the name of a modality", where=type(arrays).__name__, fix=fix)
    calibrations = isinstance(calibration, Mapping) and all(isinstance(c, Calibration) for c in calibration.values())
    if not calibrations:
        fix = 'write calibration={"optical": Calibration(scale=0.0001)}'
        raise ConfigError("calibrations go by the name of a modality", where=repr(calibration)[:80], fix=fix)
    if not arrays:
        raise ConfigError("there is no array to make a cube of", fix='give at least one: {"optical": array}')
    for name in arrays:
        check_name(name)
    for name in (*sensors, *calibration):
        if name not in arrays:
            raise UnknownNameError.of("modality", name, arrays)


def check_name(name: Any) -> None:
    """Refuse what cannot be the name of a modality.

    Raises:
        ConfigError: it is no plain text, or that of a coordinate.
    """
    if not isinstance(name, str) or not name or "/" in name:
        fix = 'give a plain name, for example "optical"'
        raise ConfigError("a modality has no such name", where=f"modality {name!r}", fix=fix)
    if name in _RESERVED:
        raise ConfigError(
            f"a modality cannot be named {name}",
            why="it is the name of a coordinate",
            fix="name it otherwise, for example after its sensor",
        )


def _no_scenes(given: Any) -> ConfigError:
    fix = "give what search(...) of an opened catalog returns: geomm.open_catalog(PATH).search()"
    if isinstance(given, (str, Path)):
        fix = f"open it first: geomm.open_catalog({str(given)!r}).search()"
        if str(given).lower().endswith((".tif", ".tiff", ".jp2", ".vrt")):
            fix = "describe its folder first: geomm.build_catalog(FOLDER, 'my-catalog', sensors=[...]).search()"
    elif isinstance(given, list) and given and isinstance(given[0], Scene):
        fix = "choose one site: for name, scenes in group_sites(scenes).items()"
    elif hasattr(given, "columns"):
        fix = "give the scenes themselves, of which scenes_frame(scenes) is a table: [s for s in scenes if ...]"
    elif hasattr(given, "search"):
        fix = "search it first: catalog.search((west, south, east, north), '2024-06-01/2024-06-30')"
    return ConfigError("these are no scenes", where=repr(given)[:80], why=f"got {type(given).__name__}", fix=fix)
