"""Class probabilities to the layers of a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomm.errors import ConfigError, UnknownNameError
from geomm.types import INVALID_CLASS, ClassSpec, LayerSpec, Prediction

STEP = 0.004
"""What one step of a probability stored as an integer is worth: 0 to 250 are 0 to 1, 255 is nodata."""
NAN = float("nan")


def _class(classes: tuple[ClassSpec, ...]) -> LayerSpec:
    return LayerSpec("class", "class", "uint8", INVALID_CLASS, ("class",), "class", classes)


def _probability(classes: tuple[ClassSpec, ...]) -> LayerSpec:
    return LayerSpec("probability", "probability", "float32", NAN, tuple(c.name for c in classes), "1", classes)


def _scaled(classes: tuple[ClassSpec, ...]) -> LayerSpec:
    names = tuple(c.name for c in classes)
    return LayerSpec("probability", "probability", "uint8", INVALID_CLASS, names, "1", classes, scale=STEP)


def _confidence(_classes: tuple[ClassSpec, ...]) -> LayerSpec:
    return LayerSpec("confidence", "probability", "float32", NAN, ("probability of the class",))


def _entropy(_classes: tuple[ClassSpec, ...]) -> LayerSpec:
    return LayerSpec("entropy", "continuous", "float32", NAN, ("entropy",), limits=(0.0, 1.0))


def _index_of(scores: Tensor) -> Tensor:
    """Index of the largest score; on a CPU either way takes five times as long on the other's layout."""
    if scores.is_contiguous(memory_format=torch.channels_last):
        return scores.argmax(1, keepdim=True)
    return scores.max(1, keepdim=True).indices


def _entropy_of(scores: Tensor) -> Tensor:
    """Entropy in units of its largest value, the logarithm of the number of classes (Shannon 1948)."""
    top = float(np.log(max(scores.shape[1], 2)))
    entropy: Tensor = torch.special.entr(scores).sum(1, keepdim=True)
    return entropy / top


LAYERS: Mapping[str, tuple[Callable[[tuple[ClassSpec, ...]], LayerSpec], Callable[[Tensor], Tensor]]] = (
    MappingProxyType(
        {
            "class": (_class, _index_of),
            "probability": (_probability, lambda scores: scores),
            "probability-uint8": (_scaled, lambda scores: scores.div(STEP).round()),
            "confidence": (_confidence, lambda scores: scores.amax(1, keepdim=True)),
            "entropy": (_entropy, _entropy_of),
        }
    )
)
"""Layers of class maps: what they are, and how they are made of probabilities ``(B, K, H, W)``. ``confidence`` is the
probability of the class that is mapped, ``entropy`` goes from 0 (sure) to 1 (all classes alike)."""


class ClassMaps:
    """Makes layers of class probabilities, on the device of the model.

    Args:
        classes: in the order of the scores.
        names: of :data:`LAYERS`, in order.

    Raises:
        UnknownNameError: there is no such layer.
        ConfigError: two of them would be one file.
    """

    def __init__(self, classes: Sequence[ClassSpec], names: Sequence[str]) -> None:
        for name in names:
            if name not in LAYERS:
                raise UnknownNameError.of("layer of class maps", name, LAYERS)
        self.names, self.classes = tuple(names), tuple(classes)
        self.layers = tuple(LAYERS[n][0](self.classes) for n in names)
        if len({layer.name for layer in self.layers}) < len(self.layers) or not names:
            raise ConfigError(
                "two layers would be one file", why=f"got {', '.join(names) or 'none'}", fix="choose one of them"
            )
        self._codes = np.array([c.value for c in self.classes], np.uint8)

    def pack(self, scores: Tensor) -> Tensor:
        """Return what the layers are made of, layer after layer, ``(B, L, H, W)``.

        Only what the layers need leaves the device: one byte a pixel if that is the class alone.
        """
        if self.names == ("class",):
            return _index_of(scores).to(torch.uint8)
        return torch.cat([LAYERS[n][1](scores).to(scores.dtype) for n in self.names], 1)

    def decode(self, packed: np.ndarray, valid: np.ndarray) -> Prediction:
        """Return the layers of ``(L, H, W)``, nodata where not ``valid (H, W)``."""
        arrays, at = {}, 0
        for layer in self.layers:
            part = packed[at : at + len(layer.bands)]
            at += len(layer.bands)
            if layer.kind == "class":
                part = self._codes.take(part.astype(np.intp, copy=False))
            arrays[layer.name] = with_nodata(part, valid, layer)
        return Prediction(arrays, self.layers)


def with_nodata(values: np.ndarray, valid: np.ndarray, layer: LayerSpec) -> np.ndarray:
    """Return values ``(band, H, W)`` in the layer's dtype, its nodata where not ``valid (H, W)``."""
    kind: Any = np.dtype(layer.dtype)
    return np.where(valid, values, kind.type(layer.nodata)).astype(kind, copy=False)
