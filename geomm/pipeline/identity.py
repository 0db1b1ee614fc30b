"""What decides a map, as a hash: so that a stopped run goes on with what is its own, and nothing is made twice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm._version import __version__
from geomm.catalog import local_path
from geomm.cube import geobox_of
from geomm.export import identity_of

if TYPE_CHECKING:
    import xarray as xr

    from geomm.package import ModelPackage
    from geomm.prediction import PredictSettings


def of_blocks(cube: xr.DataTree, packages: Sequence[ModelPackage], settings: PredictSettings) -> str:
    """Return the identity of the blocks of a map, as far as it can be known without reading pixels.

    Models count with all their files, imagery with its calibration, its plan and the size and time of local files.
    """
    import torch

    from geomm.prediction.device import resolved

    precision, threads = resolved(settings.precision, settings.device), settings.threads or torch.get_num_threads()
    grid = geobox_of(cube)
    return identity_of(
        {
            "versions": [__version__, torch.__version__],
            "models": [_digest(p.path / "SHA256SUMS") for p in packages],
            "settings": asdict(replace(settings, precision=precision, threads=threads)),
            "grid": [str(grid.crs), list(grid.affine[:6]), list(grid.shape)],
            "nodes": {n: _node(node, stored="file" in cube.attrs) for n, node in cube.children.items()},
            "store": _store(Path(cube.attrs["file"])) if "file" in cube.attrs else [],
        }
    )


def _node(node: Any, *, stored: bool) -> list[Any]:
    """Return what a modality is made of: its arrays, coordinates and files."""
    known = [] if stored else [_array(node[k].data) for k in ("data", "valid")]
    coordinates = {str(k): np.asarray(v).tolist() for k, v in node.coords.items() if k not in ("x", "y")}
    files = [str(s).partition(" ")[2] for s in node.attrs.get("sources", [])]
    about = {k: str(v) for k, v in node.attrs.items() if k not in ("items", "times")}
    return [known, str(node["data"].dtype), coordinates, about, [[f, _state(local_path(f))] for f in files]]


def _array(values: Any) -> str:
    """Return the name of a lazy array, which dask makes of all that it is made of; of others a hash of the content."""
    if hasattr(values, "dask"):
        return str(values.name)
    return hashlib.sha256(np.ascontiguousarray(values)).hexdigest()


def _state(path: Path | None) -> list[int]:
    """Return size and time of a local file, so that a changed one is not taken for what it was."""
    if path is None or not path.is_file():
        return []
    about = path.stat()
    return [about.st_size, about.st_mtime_ns]


def _store(path: Path) -> list[Any]:
    """Return names, sizes and times of all files of a store."""
    return [[str(p.relative_to(path)), *_state(p)] for p in sorted(path.rglob("*")) if p.is_file()]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
