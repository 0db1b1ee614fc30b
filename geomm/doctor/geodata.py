"""GDAL and PROJ: whether they are whole, and whether they are the ones that came with geomm."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from geomm.doctor.finding import Finding

DRIVERS = {"GTiff": "GeoTIFF", "COG": "cloud-optimised GeoTIFF", "JP2OpenJPEG": "JPEG 2000 (Sentinel-2)"}
"""Drivers of GDAL that geomm needs, and what for."""
VECTORS = ("GPKG", "GeoJSON")
"""Drivers of vector files that geomm needs."""
PATHS = ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH")
"""Environment variables that lead GDAL and PROJ to the data of another installation, such as that of QGIS or conda."""
UNSAFE = {"GDAL_HTTP_UNSAFESSL": "YES", "GDAL_VRT_ENABLE_PYTHON": "YES", "CPL_DEBUG": "ON"}
"""Environment variables, and the value that weakens GDAL or makes it talk."""
KNOWN = (("EPSG:32632", 9.0, 0.0, 500000.0, 0.0), ("EPSG:3035", 10.0, 52.0, 4321000.0, 3210000.0))
"""Points that a definition fixes: the origins of UTM 32N and of LAEA Europe, with their false eastings."""


def check_gdal() -> Finding:
    """Check that GDAL has the drivers."""
    import rasterio
    from rasterio.env import Env

    with Env() as env:
        drivers = set(env.drivers())
    lacking = [f"{name} for {use}" for name, use in DRIVERS.items() if name not in drivers]
    text = f"{rasterio.__gdal_version__} with rasterio {rasterio.__version__}"
    if lacking:
        return Finding(
            "gdal", "fail", f"{text}, lacks {', '.join(lacking)}", "take the wheel: uv pip install --reinstall rasterio"
        )
    return Finding("gdal", "ok", f"{text}, {', '.join(DRIVERS)}")


def check_hardening() -> Finding:
    """Check that what a catalog must not name is refused, and that no variable weakens GDAL."""
    from geomm.catalog import open_dataset
    from geomm.errors import GeommError

    weak = [f"{name}={os.environ[name]}" for name, bad in UNSAFE.items() if os.environ.get(name, "").upper() == bad]
    if weak:
        names = " ".join(w.partition("=")[0] for w in weak)
        return Finding("gdal hardening", "note", f"{', '.join(weak)} is set in your environment", f"unset {names}")
    with tempfile.TemporaryDirectory(prefix="geomm-doctor-") as folder:
        trap = Path(folder) / "trap.vrt"
        trap.write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
        try:
            open_dataset(str(trap)).close()
        except GeommError:
            return Finding("gdal hardening", "ok", "virtual rasters are refused; no sidecar file is followed")
    fix = "install geomm again: uv pip install --reinstall geomm"
    return Finding("gdal hardening", "fail", "a virtual raster was opened, which may name any file", fix)


def check_vectors() -> Finding:
    """Check that vector files can be read and written."""
    import pyogrio

    drivers = pyogrio.list_drivers(write=True)
    lacking = [name for name in VECTORS if name not in drivers]
    if lacking:
        fix = "take the wheel: uv pip install --reinstall pyogrio"
        return Finding("vector files", "fail", f"pyogrio cannot write {', '.join(lacking)}", fix)
    return Finding("vector files", "ok", f"pyogrio {pyogrio.__version__}, {', '.join(VECTORS)}")


def check_proj() -> Finding:
    """Transform points whose coordinates are known, with pyproj and with the PROJ of rasterio, which brings its own."""
    import pyproj

    for name, transform in (("pyproj", _by_pyproj), ("rasterio", _by_rasterio)):
        for crs, lon, lat, x, y in KNOWN:
            try:
                got = transform(crs, lon, lat)
            except Exception as error:
                text = f"{name} cannot use {crs}: {str(error)[:160]}"
                return Finding("proj", "fail", text, _proj_fix(name))
            if max(abs(got[0] - x), abs(got[1] - y)) > 1e-3:
                text = f"{name} brings {lon} E {lat} N to {got[0]:.3f}, {got[1]:.3f} in {crs} instead of {x}, {y}"
                return Finding("proj", "fail", text, _proj_fix(name))
    network = "on" if pyproj.network.is_network_enabled() else "off"
    text = f"{pyproj.proj_version_str}, transforms right without grids; network {network}"
    return Finding("proj", "ok", text)


def check_environment() -> Finding:
    """Look for variables that lead to the data of another installation."""
    here = {Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()}
    strange = {}
    for name in PATHS:
        value = os.environ.get(name, "")
        parts = [Path(p).resolve() for p in value.split(os.pathsep) if p]
        if any(not any(p.is_relative_to(root) for root in here) for p in parts):
            strange[name] = value
    if strange:
        text = "; ".join(f"{name}={value}" for name, value in strange.items()) + " is of another installation"
        return Finding("environment", "note", text, f"unset {' '.join(strange)} before you start geomm")
    return Finding("environment", "ok", "no variable leads GDAL or PROJ elsewhere")


def _proj_fix(name: str) -> str:
    leading = [v for v in ("PROJ_LIB", "PROJ_DATA") if v in os.environ]
    return f"unset {' '.join(leading)}" if leading else f"uv pip install --reinstall {name}"


def _by_pyproj(crs: str, lon: float, lat: float) -> tuple[float, float]:
    from pyproj import Transformer

    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    return float(x), float(y)


def _by_rasterio(crs: str, lon: float, lat: float) -> tuple[float, float]:
    from rasterio.warp import transform

    x, y = transform("EPSG:4326", crs, [lon], [lat])
    return float(x[0]), float(y[0])
