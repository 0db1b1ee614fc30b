"""Whole scenes to maps: planned blocks, read ahead, through the model, merged; the same bytes whoever makes them."""

from __future__ import annotations

from geomm.prediction.predictor import Decoder, Predictor, as_they_are, predictor_of, predictor_of_module
from geomm.prediction.run import predict
from geomm.prediction.settings import PredictSettings
from geomm.prediction.stream import OnBlock, predict_blocks

__all__ = [
    "Decoder",
    "OnBlock",
    "PredictSettings",
    "Predictor",
    "as_they_are",
    "predict",
    "predict_blocks",
    "predictor_of",
    "predictor_of_module",
]
