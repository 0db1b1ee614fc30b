"""What a cube says of itself: footprint, times, valid share, bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from geomm.catalog import Grid, degrees_of
from geomm.cube.plan import STATUS
from geomm.types import BBox


class Cube(xr.DataTree):  # type: ignore[no-untyped-call]
    """A ``DataTree`` whose printed form begins with a summary; in all else a plain tree."""

    __slots__ = ()

    def __repr__(self) -> str:  # type: ignore[override]
        return "\n".join([*summary(self), super().__repr__()])

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        from geomm.cube.card import cube_card

        whole = super()._repr_html_()  # type: ignore[no-untyped-call]
        return f"{cube_card(self)}<details><summary>as xarray has it</summary>{whole}</details>"


def summary(cube: xr.DataTree) -> list[str]:
    """Describe a cube in a few lines, without reading a pixel: the valid share is given where it is computed."""
    root = cube.to_dataset()
    lines = [f"{root.sizes.get('y', 0)} x {root.sizes.get('x', 0)} pixels{_ground(root)}"]
    for name, node in cube.children.items():
        dataset = node.to_dataset()
        if "data" not in dataset:
            continue
        times = dataset["time"].to_numpy() if "time" in dataset.coords else np.array([])
        span = sorted({str(t)[:10] for t in (times.min(), times.max())}) if times.size else ["no time"]
        parts = (
            f"{dataset.attrs.get('sensor', '?')}, {dataset.attrs.get('units', '?')}",
            f"{dataset.sizes.get('band', 1)} bands",
            f"{max(times.size, 1)} time step{'s' * (times.size > 1)} ({' to '.join(span)})",
            f"valid {share_text(dataset)}",
            byte_text(dataset.nbytes),
            *([dataset.attrs["remark"]] if "remark" in dataset.attrs else []),
        )
        lines.append(f"  {name}: {'; '.join(parts)}")
    return lines


def footprint(dataset: xr.Dataset) -> BBox | None:
    """Return west, south, east, north of a cube's pixels in degrees, None without a CRS.

    West is greater than east across the antimeridian.
    """
    geobox = dataset.odc.geobox
    if geobox is None or geobox.crs is None:
        return None
    return degrees_of(Grid(str(geobox.crs), tuple(geobox.affine[:6]), tuple(geobox.shape)))


def _ground(root: xr.Dataset) -> str:
    box = footprint(root)
    if box is None:
        return ""
    where = ", ".join(f"{v:.4f}" for v in box)
    return f" of {ground_text(root)}; footprint {where} (west, south, east, north)"


def ground_text(root: xr.Dataset) -> str:
    """Return pixel size and CRS of a cube in words."""
    geobox = root.odc.geobox
    if geobox is None or geobox.crs is None:
        return "no known size"
    size = " x ".join(dict.fromkeys(f"{abs(v):g}" for v in (geobox.resolution.x, geobox.resolution.y)))
    return f"{size} in {f'EPSG:{geobox.crs.epsg}' if geobox.crs.epsg else geobox.crs.proj.name}"


def share_text(dataset: xr.Dataset) -> str:
    """Say which share of a modality is valid, where that is computed."""
    valid: Any = dataset["valid"].data
    if not isinstance(valid, np.ndarray):
        return "once computed"
    text = f"{100 * float(np.mean(valid)):.1f} %"
    if "status" in dataset and isinstance(dataset["status"].data, np.ndarray):
        counts = np.bincount(dataset["status"].to_numpy().ravel(), minlength=len(STATUS)) / dataset["status"].size
        others = [
            f"{100 * counts[code]:.1f} % {name}" for name, code in STATUS.items() if name != "valid" and counts[code]
        ]
        text += f" ({', '.join(others)})" if others else ""
    return text


def byte_text(count: int) -> str:
    """Return a number of bytes in words."""
    size, unit = float(count), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            break
        size /= 1000
    return f"{size:.3g} {unit}"
