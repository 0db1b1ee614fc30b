"""Chip outputs to blocks: trim the margin, or blend overlaps with weights that sum to one. numpy only."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.chips import Chip
from geomm.errors import ConfigError
from geomm.types import Window

BLENDS = ("trim", "hann")
"""``trim`` writes each pixel from the one chip that answers for it; ``hann`` averages all chips that read it."""


@lru_cache(maxsize=2)
def hann(height: int, width: int) -> NDArray[np.float64]:
    """Return a separable window, positive everywhere, largest in the middle."""
    window: NDArray[np.float64] = np.outer(*(np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in (height, width)))
    window.flags.writeable = False
    return window


def overlap(a: Window, b: Window) -> Window | None:
    """Return what two windows share; None where that is nothing."""
    y0, x0 = max(a.y, b.y), max(a.x, b.x)
    y1, x1 = min(a.y + a.height, b.y + b.height), min(a.x + a.width, b.x + b.width)
    return Window(y0, x0, y1 - y0, x1 - x0) if y1 > y0 and x1 > x0 else None


class Block:
    """Collects the chips of one output block.

    Args:
        window: the block, inside the grid.
        blend: one of :data:`BLENDS`.

    Raises:
        ConfigError: an unknown blend.
    """

    def __init__(self, window: Window, blend: str = "trim") -> None:
        if blend not in BLENDS:
            raise ConfigError(
                f"unknown blend {blend!r}", why=f"known: {', '.join(BLENDS)}", fix=f"use one of {', '.join(BLENDS)}"
            )
        self.window, self.blend = window, blend
        self.scores: NDArray[Any] | None = None
        self.weight = np.zeros(window.shape, np.float64 if blend == "hann" else bool)
        self._skipped = np.zeros(window.shape, bool)

    def feed(self, chip: Chip, scores: NDArray[Any]) -> None:
        """Add the scores of one chip, ``(K, *chip.read.shape)``."""
        part = self._part(chip)
        if part is None:
            return
        inner, target = part.relative_to(chip.read).slices, part.relative_to(self.window).slices
        if self.scores is None:
            kind = scores.dtype if self.blend == "trim" else np.float64
            self.scores = np.zeros((scores.shape[0], *self.window.shape), kind)
        if self.blend == "trim":
            self.scores[(slice(None), *target)] = scores[(slice(None), *inner)]
            self.weight[target] = True
        else:
            weight = hann(*chip.read.shape)[inner]
            self.scores[(slice(None), *target)] += scores[(slice(None), *inner)] * weight
            self.weight[target] += weight

    def skip(self, chip: Chip) -> None:
        """Say that a chip has no scores, as there is nothing to be seen where it answers for the block."""
        part = self._part(chip)
        if part is not None:
            self._skipped[part.relative_to(self.window).slices] = True

    def result(self) -> NDArray[Any] | None:
        """Return the scores of the block ``(K, H, W)``, 0 where all chips were skipped; None if all were everywhere.

        What was averaged comes back as float32.
        """
        assert bool((self._skipped | (self.weight > 0)).all()), "the chips do not cover the block"
        if self.scores is None or self.blend == "trim":
            return self.scores
        return (self.scores / np.where(self.weight > 0, self.weight, 1.0)).astype(np.float32)

    def _part(self, chip: Chip) -> Window | None:
        """Return where a chip answers for the block."""
        return overlap(chip.write if self.blend == "trim" else chip.read, self.window)
