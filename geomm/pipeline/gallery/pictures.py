"""Pictures of a gallery, as PNG bytes: heat over a chip, and where the hits lie."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomm.errors import ConfigError

SIDE = 256
"""Least pixels of the longer side of a picture with heat: smaller chips keep their pixels, as squares."""
_STRENGTH = (0.25, 0.75)
"""How much of a colour covers the picture, at the least and at the most heat."""
_GREYS = (0.15, 0.65)
"""Black and white of a picture under heat: colours stay those of the scale."""

_UNSIGNED: Any = {"Software": None}
"""No version in the file, so that the same heat gives the same bytes."""


@dataclass(frozen=True, slots=True)
class HeatScale:
    """One scale for the heat of all pictures."""

    low: float
    """Heat of the first colour; less has it too."""
    high: float
    """Heat of the last colour; more has it too."""

    @classmethod
    def of(cls, heats: Iterable[NDArray[np.floating] | None]) -> HeatScale | None:
        """Return the scale between the 2 % and 99.8 % quantiles of all heats; None where there is none.

        Raises:
            ConfigError: a heat is not a picture of numbers.
        """
        known = [np.asarray(h) for h in heats if h is not None]
        if any(h.ndim != 2 or not h.size for h in known):
            raise ConfigError(
                "a heat has rows and columns",
                why=f"shapes {sorted({h.shape for h in known})}",
                fix="give heats as (rows, columns)",
            )
        values = np.concatenate([h[np.isfinite(h)].ravel() for h in known] or [np.zeros(0)]).astype(float)
        return cls(*map(float, np.quantile(values, [0.02, 0.998]))) if values.size else None

    def share(self, heat: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return where heat lies on the scale, 0 to 1."""
        return np.clip((heat.astype(float) - self.low) / max(self.high - self.low, 1e-12), 0.0, 1.0)


def heat_colours(share: NDArray[np.float64], grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lay colours of heat over grey values; colours of equal steps look equally far apart.

    Args:
        share: 0 to 1 ``(...)``; NaN leaves the grey.
        grey: 0 to 1 ``(...)``.

    Returns:
        Red, green, blue ``(..., 3)``, 0 to 1.
    """
    from matplotlib import colormaps

    known, below = np.nan_to_num(share), (_GREYS[0] + (_GREYS[1] - _GREYS[0]) * grey)[..., None]
    cover = np.where(np.isfinite(share), _STRENGTH[0] + (_STRENGTH[1] - _STRENGTH[0]) * known, 0.0)[..., None]
    return np.asarray(cover * colormaps["inferno"](known)[..., :3] + (1 - cover) * below)


def heated(picture: bytes | None, heat: NDArray[np.floating], scale: HeatScale) -> bytes:
    """Return a picture in grey with its heat over it.

    Args:
        picture: PNG; None where there is none: the heat alone.
        heat: ``(rows, columns)`` over the whole picture, NaN where unknown.
        scale: of all pictures.

    Raises:
        ConfigError: the picture is not a PNG.
    """
    from matplotlib.image import imsave
    from scipy.ndimage import zoom

    grey = np.full((SIDE, SIDE), 0.5) if picture is None else _grey(picture)
    times = -(-SIDE // max(grey.shape))
    grey = grey.repeat(times, 0).repeat(times, 1)
    known = np.isfinite(heat)
    factor = [n / m for n, m in zip(grey.shape, heat.shape, strict=True)]
    filled, weight = (
        zoom(layer.astype(float), factor, order=1, mode="nearest", grid_mode=True)
        for layer in (np.where(known, heat, 0.0), known)
    )
    smooth = np.where(weight > 0.5, filled / np.maximum(weight, 0.5), np.nan)
    buffer = io.BytesIO()
    imsave(buffer, heat_colours(scale.share(smooth), grey), format="png", metadata=_UNSIGNED)
    return buffer.getvalue()


def _grey(picture: bytes) -> NDArray[np.float64]:
    """Return the luminance of a PNG (ITU-R BT.709), 0 to 1; white where it is transparent."""
    from matplotlib.image import imread

    try:
        values = np.asarray(imread(io.BytesIO(picture), format="png"), float)
    except (OSError, SyntaxError, ValueError) as error:
        raise ConfigError(
            "a picture is not a PNG", why=str(error), fix="run `geomm verify INDEX`: its pictures may be damaged"
        ) from error
    if values.ndim == 2:
        return values
    colour = values[..., :3] @ [0.2126, 0.7152, 0.0722]
    return colour * values[..., 3] + 1 - values[..., 3] if values.shape[-1] == 4 else colour
