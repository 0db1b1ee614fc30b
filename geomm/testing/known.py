"""Tasks whose best possible answer is known in closed form: they say how much of what can be had a model has.

- :class:`Xor`: a class that neither modality shows and both together do. Every rule that adds what modalities say by
  themselves gains at most half of what can be gained (the proof is in ``benchmarks/known_optimum.py``).
- :class:`Views`: modalities that say independent things given the class, where late fusion is best.
- :func:`leakage_field`: labels and nuisances with a range, on which a random split overstates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy import ndimage
from scipy.special import gammainc, ndtr


class View(Protocol):
    """How one modality shows a bit."""

    def draw(self, bits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return pixels of bits ``(..., h, w)`` of 0 and 1, float64."""
        ...

    def evidence(self, pixels: np.ndarray) -> np.ndarray:
        """Return the log-likelihood ratio of bit 1 against 0, pixel by pixel; it adds up over pixels."""
        ...

    def accuracy(self, pixels: int) -> float:
        """Return how often the best decision on so many pixels of one bit is right."""
        ...


@dataclass(frozen=True, slots=True)
class Gaussian:
    """Pixels with unit variance and means half a signal below and above 0."""

    signal: float
    """Distance of the means."""

    def draw(self, bits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return pixels of bits; see :class:`View`."""
        return generator.normal((bits - 0.5) * self.signal)

    def evidence(self, pixels: np.ndarray) -> np.ndarray:
        """Return the log-likelihood ratio; see :class:`View`."""
        return pixels * self.signal

    def accuracy(self, pixels: int) -> float:
        """Return how often the best decision is right."""
        return float(ndtr(self.signal * math.sqrt(pixels) / 2))


@dataclass(frozen=True, slots=True)
class Speckle:
    """Backscatter in decibels: intensity follows a gamma distribution of so many looks."""

    looks: float
    """Equivalent number of looks."""
    contrast: float
    """Of the mean intensities, in decibels."""

    @property
    def ratio(self) -> float:
        """Contrast as a ratio."""
        return float(10 ** (self.contrast / 10))

    def draw(self, bits: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return pixels of bits in decibels; see :class:`View`."""
        mean = np.where(bits == 1, self.ratio, 1.0)
        return 10 * np.log10(generator.gamma(self.looks, mean / self.looks))

    def evidence(self, pixels: np.ndarray) -> np.ndarray:
        """Return the log-likelihood ratio; see :class:`View`."""
        intensity = 10 ** (pixels / 10)
        return self.looks * (intensity * (1 - 1 / self.ratio) - math.log(self.ratio))

    def accuracy(self, pixels: int) -> float:
        """Return how often the best decision is right: intensity above or below log(r) / (1 - 1/r)."""
        looks, limit = self.looks * pixels, math.log(self.ratio) / (1 - 1 / self.ratio)
        dark = gammainc(looks, looks * limit)
        return float((dark + 1 - gammainc(looks, looks * limit / self.ratio)) / 2)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A batch of a task."""

    images: dict[str, np.ndarray]
    """Modality to float32 ``(B, 1, H, W)``."""
    target: np.ndarray
    """Class 0 or 1, int64 ``(B, H, W)``."""
    posterior: np.ndarray
    """Probability of class 1 given all modalities, float64 ``(B, H, W)``."""


@dataclass(frozen=True, slots=True)
class Xor:
    """The class of a parcel is the exclusive or of two bits, one shown by each modality."""

    views: Mapping[str, View]
    """Two modalities."""
    grid: int = 4
    """Parcels per side of an image."""
    parcel: int = 4
    """Pixels per side of a parcel."""
    shared: tuple[str, ...] = ()
    """Modalities that show one bit for the whole image, such as day or night."""

    @property
    def side(self) -> int:
        """Pixels per side of an image."""
        return self.grid * self.parcel

    def draw(self, count: int, generator: np.random.Generator) -> Drawn:
        """Draw images with their best possible answer."""
        images, target = {}, np.zeros((count, self.grid, self.grid), np.int64)
        product: np.ndarray = np.ones(target.shape)
        for name, view in self.views.items():
            bits = generator.integers(0, 2, (count, 1, 1) if name in self.shared else target.shape)
            bits = np.broadcast_to(bits, target.shape)
            target = target ^ bits
            pixels = view.draw(self._spread(bits), generator)
            images[name] = pixels[:, None].astype(np.float32)
            product = product * np.tanh(self._gathered(view.evidence(pixels), name) / 2)
        return Drawn(images, self._spread(target), self._spread((1 - product) / 2))

    @property
    def bayes(self) -> float:
        """Accuracy of the best possible answer."""
        return 0.5 + 0.5 * math.prod(2 * v.accuracy(self._pixels(n)) - 1 for n, v in self.views.items())

    @property
    def additive(self) -> float:
        """Highest accuracy of any rule that adds what the modalities say by themselves."""
        return 0.5 + (self.bayes - 0.5) / 2

    def _pixels(self, name: str) -> int:
        return self.side**2 if name in self.shared else self.parcel**2

    def _spread(self, parcels: np.ndarray) -> np.ndarray:
        return parcels.repeat(self.parcel, -2).repeat(self.parcel, -1)

    def _gathered(self, pixels: np.ndarray, name: str) -> np.ndarray:
        sums = pixels.reshape(len(pixels), self.grid, self.parcel, self.grid, self.parcel).sum((2, 4))
        return np.broadcast_to(sums.sum((1, 2), keepdims=True), sums.shape) if name in self.shared else sums


XOR_FLOOD = Xor({"sar": Speckle(4.4, 2.0), "optical": Gaussian(0.94)})
"""Flooded or not: bright in radar exactly where not green, or dark exactly where green."""

DIURNAL = Xor({"thermal": Gaussian(0.94), "optical": Gaussian(0.25)}, shared=("optical",))
"""Water is warmer than land by night and cooler by day, and only optics tell which it is."""


@dataclass(frozen=True, slots=True)
class Views:
    """Modalities with independent noise given the class of the image, whose prior may be unbalanced."""

    signals: Mapping[str, float] = field(default_factory=lambda: {"s2": 1.6, "s1": 1.2, "tir": 0.8})
    """Modality to the distance of the class means of the whole image, in standard deviations."""
    side: int = 4
    """Pixels per side."""
    prior: float = 0.5
    """Of class 1."""

    def draw(self, count: int, generator: np.random.Generator) -> Drawn:
        """Draw images with their best possible answer."""
        bits = (generator.random(count) < self.prior).astype(np.int64)
        target = np.broadcast_to(bits[:, None, None], (count, self.side, self.side))
        images, evidence = {}, np.full(count, math.log(self.prior / (1 - self.prior)))
        for name, signal in self.signals.items():
            view = Gaussian(signal / self.side)
            pixels = view.draw(target, generator)
            images[name] = pixels[:, None].astype(np.float32)
            evidence = evidence + view.evidence(pixels).sum((1, 2))
        posterior = 1 / (1 + np.exp(-evidence))
        return Drawn(images, target.copy(), np.broadcast_to(posterior[:, None, None], target.shape).copy())

    def bayes(self, subset: tuple[str, ...]) -> float:
        """Accuracy of the best possible answer from a subset of the modalities."""
        size = math.sqrt(sum(self.signals[n] ** 2 for n in subset))
        odds = math.log(self.prior / (1 - self.prior))
        return float(self.prior * ndtr(size / 2 + odds / size) + (1 - self.prior) * ndtr(size / 2 - odds / size))


def leakage_field(side: int, reach: float, covariates: int, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Draw a map whose labels and nuisances both change slowly from place to place.

    A smooth random field decides the label; the first covariate shows it through noise, the others are smooth fields of
    the same reach that have nothing to do with it. A model that knows a place by its nuisances knows the labels nearby.

    Args:
        side: height and width in cells.
        reach: standard deviation of the smoothing, in cells.
        covariates: number of covariates.
        generator: source of randomness.

    Returns:
        Covariates, float64 ``(side, side, covariates)``, and labels 0 or 1, int64 ``(side, side)``.
    """
    smooth = np.stack(
        [ndimage.gaussian_filter(generator.normal(size=(side, side)), reach, mode="wrap") for _ in range(covariates)]
    )
    smooth /= smooth.std((1, 2), keepdims=True)
    labels = (smooth[0] > 0).astype(np.int64)
    shown = np.moveaxis(smooth, 0, -1).copy()
    shown[..., 0] = smooth[0] + generator.normal(size=(side, side)) * 1.5
    return shown, labels
