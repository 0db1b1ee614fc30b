"""Classes that an array says it holds, as CF flags do: ``flag_values``, ``flag_meanings``, and ``flag_colors``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from geomm.types import ClassSpec


def flags_of(classes: Sequence[Any], dtype: Any = np.uint8) -> dict[str, Any]:
    """Return the attributes that tell of classes; spaces in names are underscores there.

    Args:
        classes: with ``value``, ``name`` and ``color``.
        dtype: of the array.
    """
    return {
        "flag_values": np.array([c.value for c in classes], dtype),
        "flag_meanings": " ".join("_".join(c.name.split()) for c in classes),
        "flag_colors": " ".join(c.color for c in classes),
    }


def classes_of(array: xr.DataArray) -> tuple[ClassSpec, ...]:
    """Return the classes that an array says it has; those without a colour get one."""
    if "flag_values" not in array.attrs:
        return ()
    values = [int(v) for v in np.atleast_1d(array.attrs["flag_values"])]
    names = str(array.attrs.get("flag_meanings", "")).split() or [str(v) for v in values]
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    spare = [to_hex(c) for c in colormaps["tab20"](range(20))]
    colours = str(array.attrs.get("flag_colors", "")).split() or [spare[k % 20] for k in range(len(values))]
    return tuple(ClassSpec(*row) for row in zip(values, (n.replace("_", " ") for n in names), colours, strict=True))


def class_colours(
    values: NDArray[np.float32], told: Sequence[ClassSpec]
) -> tuple[tuple[ClassSpec, ...], NDArray[np.uint8]]:
    """Give every class that is seen a colour: its own, where it is told, else one that no other has.

    Args:
        values: codes ``(y, x)``, NaN where there is none.
        told: classes that are known.

    Returns:
        The classes that are seen, and colours ``(y, x, 4)``.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex, to_rgb

    table = colormaps["tab20"](np.arange(20))[:, :3]
    codes = np.nan_to_num(values).astype(np.int64)
    known = np.isfinite(values)
    seen = np.unique(codes[known])
    place = (
        seen if seen.max(initial=0) < len(table) else np.arange(len(seen))
    )  # the same in every picture, if it can be
    by_code = {c.value: c for c in told}
    classes = tuple(
        by_code.get(v, ClassSpec(v, str(v), to_hex(table[k % len(table)])))
        for v, k in zip(seen.tolist(), place, strict=True)
    )
    rgba = np.zeros((*codes.shape, 4), np.uint8)
    if len(seen):
        colours = (np.array([to_rgb(c.color) for c in classes]) * 255).astype(np.uint8)
        rgba[known, :3] = colours[np.searchsorted(seen, codes[known])]
    rgba[..., 3] = known * np.uint8(255)
    return classes, rgba
