"""A batch of chips as NumPy arrays, and how labels become its target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.chips import Chip
from geomm.errors import ConfigError
from geomm.types import INVALID_CLASS


@dataclass(frozen=True, slots=True)
class Target:
    """How the labels of a cube become class indices."""

    modality: str
    """Node that holds the labels; its first band and time are used."""
    values: tuple[int, ...]
    """Label value of each class index; other values are ignored."""
    decode: Callable[[np.ndarray], np.ndarray] | None = None
    """Turns stored numbers into label values first, such as :func:`geomm.radiometry.cloud_classes_from_bqa`."""

    def __post_init__(self) -> None:
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
            return table.take(labels, mode="clip")
        out = np.full(labels.shape, INVALID_CLASS, np.uint8)
        for k, value in enumerate(self.values):
            out[labels == value] = k
        return out


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
