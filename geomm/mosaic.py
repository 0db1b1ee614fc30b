"""Chip outputs to blocks: trim the margin, or blend overlaps with weights that sum to one. numpy only."""

from __future__ import annotations

import numpy as np

from geomm.chips import Chip
from geomm.errors import ConfigError
from geomm.types import Window

BLENDS = ("trim", "hann")
"""``trim`` writes each pixel from the one chip that answers for it; ``hann`` averages all chips that read it."""


def hann(size: int) -> np.ndarray:
    """Return a separable window ``(size, size)``, positive everywhere, largest in the middle."""
    line = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    return np.outer(line, line)


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
            raise ConfigError(f"unknown blend {blend!r}", why=f"known: {', '.join(BLENDS)}")
        self.window, self.blend = window, blend
        self.scores: np.ndarray | None = None
        self.weight = np.zeros(window.shape)

    def feed(self, chip: Chip, scores: np.ndarray) -> None:
        """Add the scores of one chip, ``(K, *chip.read.shape)``."""
        source = chip.write if self.blend == "trim" else chip.read
        y0, x0 = max(source.y, self.window.y), max(source.x, self.window.x)
        y1 = min(source.y + source.height, self.window.y + self.window.height)
        x1 = min(source.x + source.width, self.window.x + self.window.width)
        if y0 >= y1 or x0 >= x1:
            return
        part = Window(y0, x0, y1 - y0, x1 - x0)
        inner, target = part.relative_to(chip.read).slices, part.relative_to(self.window).slices
        if self.scores is None:
            kind = scores.dtype if self.blend == "trim" else np.float64
            self.scores = np.zeros((scores.shape[0], *self.window.shape), kind)
        if self.blend == "trim":
            self.scores[(slice(None), *target)] = scores[(slice(None), *inner)]
            self.weight[target] = 1.0
        else:
            weight = hann(chip.read.height)[inner]
            self.scores[(slice(None), *target)] += scores[(slice(None), *inner)] * weight
            self.weight[target] += weight

    def result(self) -> np.ndarray:
        """Return the scores of the block ``(K, H, W)``; what was averaged comes back as float32."""
        assert self.scores is not None, "no chip was fed"
        assert bool((self.weight > 0).all()), "the chips do not cover the block"
        return self.scores if self.blend == "trim" else (self.scores / self.weight).astype(np.float32)
