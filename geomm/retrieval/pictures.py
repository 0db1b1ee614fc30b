"""Small pictures of chips, all stretched alike, so that hits can be looked at without their imagery."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geomm.sensors import get_sensor
from geomm.types import Modality

if TYPE_CHECKING:
    from geomm.dataset import Sample

SIDE = 128
"""Longest side of a picture in pixels."""


def pictures_of(batch: Sample, streams: Mapping[str, Modality], prefer: Sequence[str] = ()) -> list[bytes]:
    """Draw every chip of a batch.

    Args:
        batch: as a loader gives it.
        streams: modality to sensor and bands.
        prefer: modalities to show where a chip has them, the first that it has; default the order of the streams.

    Returns:
        One PNG per chip, transparent where nothing is valid: natural colours, two polarisations, or grey.
    """
    order = [n for n in (*prefer, *streams) if n in batch.images]
    count = len(batch.images[order[0]])
    return [
        _png(_drawn(batch, k, next((n for n in order if bool(batch.present[n][k])), order[0]), streams))
        for k in range(count)
    ]


def _drawn(batch: Sample, number: int, name: str, streams: Mapping[str, Modality]) -> np.ndarray:
    """Return a chip as bytes ``(y, x, 4)``: the first time step that holds anything."""
    from geomm.transforms import physical

    sensor = get_sensor(streams[name].sensor)
    names = streams[name].bands or sensor.band_names()
    chosen = list(sensor.shown(names))
    valid = batch.valid[name][number]
    step = int(valid.flatten(1).any(1).int().argmax())
    values = physical(batch.images[name][number, step : step + 1], batch.calibration[name][number, step : step + 1])
    shown = values[0, chosen].numpy()
    limits = np.array([sensor.band(names[k]).display for k in chosen], np.float32)
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    bytes_ = (np.clip((shown - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    alpha = valid[step].numpy().astype(np.uint8)[None] * 255
    return np.moveaxis(np.concatenate([bytes_, alpha]), 0, -1)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    step = max(1, -(-max(pixels.shape[:2]) // SIDE))
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[::step, ::step])).save(file, "PNG", optimize=False)
    return file.getvalue()
