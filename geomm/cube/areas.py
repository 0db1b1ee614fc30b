"""Read areas of a cube's node into memory that is used again, past dask where the node is as it was loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomm.cube.expect import Uses
from geomm.cube.memory import Memory
from geomm.cube.plan import STATUS, Plan
from geomm.types import Window


@dataclass(frozen=True, slots=True)
class Area:
    """Memory for an area of a node."""

    data: NDArray[Any]
    """``(time, band, y, x)``: stored numbers, 0 where a band holds nothing."""
    valid: NDArray[np.bool_]
    """``(time, y, x)``."""


class Areas(Protocol):
    """Where areas of a node come from."""

    steps: int
    """Time steps."""
    bands: int
    """Bands."""
    dtype: np.dtype[Any]
    """Of the data: as stored, float64 as float32."""

    def read(self, step: int, window: Window, area: Area) -> None:
        """Fill one time step of an area; from any thread."""
        ...

    def expect(self, windows: Sequence[Window], *, lasting: bool) -> Uses:
        """Announce windows that will be read, and return what for; see :meth:`geomm.cube.read.SourceReader.expect`."""
        ...

    def forget(self, uses: Uses) -> None:
        """Drop what was announced and is kept still."""
        ...


def areas_of(node: xr.Dataset, *, first: bool = False) -> Areas:
    """Return where the areas of a node come from.

    Args:
        node: with ``data`` and ``valid``; lazy or loaded, as it was loaded or changed since.
        first: only its first time step and band.
    """
    plan = plan_of(node)
    if plan is None:
        return _FromArrays(node.isel(time=[0], band=[0]) if first else node)
    if first:
        plan = replace(plan, bands=plan.bands[:1], fill=plan.fill[:1], steps=plan.steps[:1], windows=plan.windows[:1])
    return _FromPlan(plan)


def new_area(areas: Areas, shape: tuple[int, int], memory: Memory) -> Area:
    """Take memory for an area."""
    data = memory.take((areas.steps, areas.bands, *shape), areas.dtype)
    return Area(data, memory.take((areas.steps, *shape), np.bool_))


def close_files(cube: xr.DataTree) -> None:
    """Close the files of a cube as it was loaded, and forget what was decoded; read again, it opens them again.

    A tree and its nodes hold each other: left to the garbage collector, its files would stay open for a while.
    """
    for node in cube.children.values():
        plan = plan_of(node.to_dataset())
        if plan is not None:
            plan.reader.close()


class _FromPlan:
    """Straight from the files, by the plan that the lazy arrays carry out too."""

    def __init__(self, plan: Plan) -> None:
        self.dtype = _narrow(np.dtype(plan.dtype))
        self.plan = replace(plan, dtype=str(self.dtype), fill=(0.0,) * len(plan.bands))
        self.steps, self.bands = len(plan.steps), len(plan.bands)

    def read(self, step: int, window: Window, area: Area) -> None:
        status = area.valid[step].view(np.uint8)
        self.plan.read(step, window, area.data[step], status)
        np.equal(status, STATUS["valid"], out=area.valid[step])

    def expect(self, windows: Sequence[Window], *, lasting: bool) -> Uses:
        uses = self.plan.cells(windows)
        self.plan.reader.expect(uses, lasting=lasting)
        return uses

    def forget(self, uses: Uses) -> None:
        self.plan.reader.forget(uses)


class _FromArrays:
    """From arrays, computed window by window where they are lazy."""

    def __init__(self, node: xr.Dataset) -> None:
        self.data, self.valid = node["data"].data, node["valid"].data
        self.dtype = _narrow(self.data.dtype)
        self.steps, self.bands = self.data.shape[:2]

    def read(self, step: int, window: Window, area: Area) -> None:
        parts = self.data[(step, slice(None), *window.slices)], self.valid[(step, *window.slices)]
        data, valid = dask.compute(*parts, scheduler="synchronous")  # the caller's threads are enough
        known = np.isfinite(data) if data.dtype.kind == "f" else True
        area.data[step] = 0
        np.copyto(area.data[step], data, where=known, casting="same_kind")
        area.valid[step] = valid

    def expect(self, windows: Sequence[Window], *, lasting: bool) -> Uses:  # noqa: ARG002
        return {}

    def forget(self, uses: Uses) -> None:
        """Nothing is kept."""


def _narrow(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype("float32") if dtype == np.float64 else dtype


def plan_of(node: xr.Dataset) -> Plan | None:
    """Return the plan behind a node whose arrays are those that loading gave; None where they were changed."""
    data = node["data"].data
    name = getattr(data, "name", "")
    if "status" not in node or not str(name).startswith("geomm-data-"):
        return None
    token = name.removeprefix("geomm-data-")
    same = getattr((node["status"] == STATUS["valid"]).data, "name", "") == getattr(node["valid"].data, "name", None)
    plan = data.dask.layers.get(f"geomm-read-{token}", {}).get(f"plan-{token}")
    return plan if same and isinstance(plan, Plan) else None


def chosen_bands(node: xr.Dataset, step: int, bands: Sequence[int]) -> Areas:
    """Return where the areas of one time step and some bands come from; the files of no other band are read."""
    plan = plan_of(node)
    if plan is None:
        return _FromArrays(node.isel(time=[step], band=list(bands)))
    names, fill = tuple(plan.bands[k] for k in bands), tuple(plan.fill[k] for k in bands)
    one = replace(plan, bands=names, fill=fill, steps=(plan.steps[step],), windows=(plan.windows[step],))
    return _FromPlan(one)
