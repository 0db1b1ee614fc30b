"""Whole scenes to maps: planned blocks, read ahead, through the model, merged; the same bytes whoever makes them."""

from __future__ import annotations

from geomm.prediction.fitting import fitted_settings
from geomm.prediction.maps import predict_map, to_xarray
from geomm.prediction.members import Member, cells_of, predictor_of
from geomm.prediction.module import predictor_of_module
from geomm.prediction.predictor import Decoder, Predictor, as_they_are
from geomm.prediction.run import predict, ready, settings_for
from geomm.prediction.settings import PredictSettings
from geomm.prediction.stream import OnBlock, predict_blocks

__all__ = [
    "Decoder",
    "Member",
    "OnBlock",
    "PredictSettings",
    "Predictor",
    "as_they_are",
    "cells_of",
    "fitted_settings",
    "predict",
    "predict_blocks",
    "predict_map",
    "predictor_of",
    "predictor_of_module",
    "ready",
    "settings_for",
    "to_xarray",
]
