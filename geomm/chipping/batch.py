"""A batch of chips as NumPy arrays, and how labels become its target."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.chips import Chip
from geomm.cube import kernels
from geomm.errors import ConfigError
from geomm.types import INVALID_CLASS, ClassSpec


@dataclass(frozen=True, slots=True)
class Target:
    """How the labels of a cube become class indices."""

    modality: str
    """Node that holds the labels; its first band and time are used."""
    values: tuple[int, ...]
    """Label value of each class index; other values are ignored. Of classes their values are taken."""
    decode: Callable[[np.ndarray], np.ndarray] | None = None
    """Turns stored numbers into label values first, such as :func:`geomm.radiometry.cloud_classes_from_bqa`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", _values(self.values, self.modality))
        if not self.values:
            fix = 'list the label of every class: Target("label", values=(0, 1, 2))'
            raise ConfigError("a target has at least one class", where=f"target {self.modality!r}", fix=fix)
        if len(self.values) > INVALID_CLASS:
            raise ConfigError(
                f"a target has at most {INVALID_CLASS} classes",
                why=f"{len(self.values)} values",
                fix="group classes before: values beyond 254 have no code in a map of bytes",
            )

    def index(self, stored: np.ndarray) -> np.ndarray:
        """Return class indices, uint8 of the same shape."""
        labels = stored if self.decode is None else self.decode(stored)
        if labels.dtype == np.uint8:  # one look-up instead of a comparison for every class
            table = np.full(256, INVALID_CLASS, np.uint8)
            for k, value in enumerate(self.values):
                if 0 <= value < 256:
                    table[value] = k
            found = np.empty(labels.shape, np.uint8)
            flat = labels.ndim != 2
            kernels.look_up(labels.reshape(1, -1) if flat else labels, table, found.reshape(1, -1) if flat else found)
            return found
        out = np.full(labels.shape, INVALID_CLASS, np.uint8)
        for k, value in enumerate(self.values):
            out[labels == value] = k
        return out


def _values(given: Any, modality: str) -> tuple[int, ...]:
    """Return label values as whole numbers.

    Raises:
        ConfigError: they are something else, such as the names of classes.
    """
    listed = [] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    numbers = [v.value if isinstance(v, ClassSpec) else v for v in listed]
    whole = all(isinstance(v, (int, np.integer)) and not isinstance(v, bool) for v in numbers)
    if not whole or (not listed and not isinstance(given, (tuple, list))):
        raise ConfigError(
            "the values of a target are whole numbers",
            where=f"target {modality!r}",
            why=f"got {given!r}"[:80],
            fix='list the stored number of every class: Target("label", values=(0, 1, 2)), or give its ClassSpecs',
        )
    return tuple(int(v) for v in numbers)


@dataclass(frozen=True, slots=True)
class ChipArrays:
    """A batch of B chips."""

    images: dict[str, NDArray[Any]]
    """Modality to stored numbers ``(B, T, C, H, W)``; 0 where a band holds nothing."""
    valid: dict[str, NDArray[np.bool_]]
    """Modality to ``(B, T, H, W)``."""
    calibration: dict[str, NDArray[np.float32]]
    """Modality to ``(B, T, C, 4)``: scale, offset, K1, K2 (NaN where not thermal)."""
    target: NDArray[np.uint8] | None
    """Class index ``(B, H, W)``, 255 where there is none."""
    chips: tuple[Chip, ...]
    """What was cut."""
    index: NDArray[np.int64]
    """``(B,)``: positions in the list of chips."""
    bounds: NDArray[np.float64]
    """``(B, 4)``: left, bottom, right, top of what was read, in the CRS of the grid."""
    text: tuple[str, ...] = ()
    """Text of every chip, where asked for."""
