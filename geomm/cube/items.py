"""Which items lie behind the time steps of a node, also after steps were chosen, put together or taken in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr


def told_items(items: Sequence[Sequence[str]], times: Any) -> dict[str, Any]:
    """Return the attributes of a node that tell the items of each time step.

    Args:
        items: ids by time step.
        times: of the steps, datetime64.
    """
    return {"items": [list(step) for step in items], "times": [str(t) for t in times]}


def items_of(node: xr.Dataset) -> list[list[str]]:
    """Return the ids of the items behind each time step of a node; none of a step that it does not tell of."""
    items, told = list(node.attrs.get("items", ())), list(node.attrs.get("times", ()))
    times = [str(t) for t in np.atleast_1d(node["time"].to_numpy())] if "time" in node.coords else []
    if len(items) == len(times) and told in ([], times):
        return [list(step) for step in items]
    known: dict[str, list[str]] = {}
    for time, step in zip(told, items, strict=False):
        known.setdefault(time, []).extend(step)
    return [known.get(t, []) for t in times]
