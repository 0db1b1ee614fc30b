"""Training: settings, :func:`geomm.train.fit.fit`, and what is measured of a model afterwards.

Importing this package is light; Lightning comes with ``geomm.train.fit``.
"""

from __future__ import annotations

from geomm.train.settings import Fitted, OnStep, TrainData, TrainSettings

__all__ = ["Fitted", "OnStep", "TrainData", "TrainSettings"]
