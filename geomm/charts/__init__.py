"""Charts as matplotlib figures, light or dark: calibration, figures with intervals, missing modalities, training.

Each returns a :class:`matplotlib.figure.Figure` that a notebook shows by itself; :func:`png` makes a file of it.
"""

from __future__ import annotations

from geomm.charts.drawing import WIDE, png
from geomm.charts.figures import curves, intervals, missing, reliability
from geomm.charts.theme import DARK, LIGHT, Theme

__all__ = ["DARK", "LIGHT", "WIDE", "Theme", "curves", "intervals", "missing", "png", "reliability"]
