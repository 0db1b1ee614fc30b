"""A world whose scenes are told in words and seen by three sensors that were never at one place in training.

Every scene is a ground with two things on it. All sensors show all of them, each in its own way: water is dark in the
near infrared, dark in radar and cool; a town is bright in radar and warm. As several scenes share a description, the
best possible recall is known (:func:`geomm.metrics.ceiling`), and as the things are drawn, so is where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np
import torch

from geomm.dataset import Sample
from geomm.types import INVALID_CLASS

GROUNDS = ("grassland", "forest", "desert", "snow", "heath")
"""What covers a scene."""
THINGS = ("lake", "town", "field", "quarry", "fire", "airport", "marsh")
"""What lies on it, two at a time."""

# Means per band in standard deviations of the ground: blue, red, near infrared, short-wave infrared; VV, VH; two
# thermal bands, which see the emissivity of minerals differently.
_SEEN: Mapping[str, Mapping[str, tuple[float, ...]]] = MappingProxyType(
    {
        "s2": {
            "grassland": (0.0, 0.0, 2.0, 0.5),
            "forest": (-0.5, -0.5, 1.5, -0.5),
            "desert": (1.0, 2.0, 2.0, 2.5),
            "snow": (4.0, 4.0, 3.0, -1.0),
            "heath": (0.0, 1.0, 0.5, 1.5),
            "lake": (0.5, -1.0, -2.5, -2.5),
            "town": (1.5, 1.5, 0.5, 1.5),
            "field": (-0.5, -1.0, 4.0, 0.5),
            "quarry": (3.0, 3.5, 2.5, 4.5),
            "fire": (0.5, 1.0, 0.0, 6.0),
            "airport": (2.5, 2.0, -1.0, 0.0),
            "marsh": (-1.0, 0.5, 0.0, -2.0),
        },
        "s1": {
            "grassland": (-0.5, -0.5),
            "forest": (0.5, 1.5),
            "desert": (-1.5, -2.5),
            "snow": (-2.5, -1.0),
            "heath": (-1.0, 1.0),
            "lake": (-4.5, -4.0),
            "town": (4.5, 2.5),
            "field": (0.8, -1.2),
            "quarry": (2.5, 0.0),
            "fire": (-0.5, 3.5),
            "airport": (-4.0, 0.5),
            "marsh": (2.5, 4.5),
        },
        "thermal": {
            "grassland": (0.0, 0.0),
            "forest": (-1.5, 1.5),
            "desert": (3.0, -2.5),
            "snow": (-6.0, -1.0),
            "heath": (1.5, 1.0),
            "lake": (-4.0, 2.5),
            "town": (2.0, -1.0),
            "field": (-2.0, -1.5),
            "quarry": (4.5, -4.5),
            "fire": (7.0, 1.5),
            "airport": (5.0, 0.0),
            "marsh": (-3.0, 4.5),
        },
    }
)

BANDS: Mapping[str, int] = MappingProxyType({name: len(seen["lake"]) for name, seen in _SEEN.items()})
"""Sensor to its number of bands."""

_TEMPLATES = ("a {} and a {} in {}", "{2} with a {0} and a {1}", "{2}: a {0}, a {1}", "there is a {} and a {} on {}")


@dataclass(frozen=True, slots=True)
class Scenes:
    """Scenes as all sensors see them."""

    images: dict[str, np.ndarray]
    """Sensor to float32 ``(N, bands, side, side)``."""
    things: np.ndarray
    """Number of the thing in :data:`THINGS` at every pixel, 255 on the ground, uint8 ``(N, side, side)``."""
    texts: tuple[str, ...]
    """What is there: two scenes with the same ground and things have the same text."""

    def seen_by(self, sensors: Sequence[str], texts: Sequence[str] = ()) -> Sample:
        """Return the scenes as a batch, normalised, that has some of the sensors."""
        chosen = {n: torch.from_numpy(self.images[n])[:, None] for n in sensors}
        valid = {n: torch.ones(x.shape[0], 1, *x.shape[-2:], dtype=torch.bool) for n, x in chosen.items()}
        line = torch.tensor([1.0, 0.0, float("nan"), float("nan")])
        calibration = {n: line.expand(len(x), 1, x.shape[2], 4) for n, x in chosen.items()}
        present = {n: torch.ones(len(x), dtype=torch.bool) for n, x in chosen.items()}
        return Sample(chosen, valid, calibration, present, text=tuple(texts or self.texts))


@dataclass(frozen=True, slots=True)
class World:
    """Draws scenes."""

    side: int = 24
    """Pixels per side."""
    noise: float = 0.5
    """Standard deviation of a pixel."""

    def draw(self, count: int, generator: np.random.Generator) -> Scenes:
        """Draw scenes."""
        pairs = list(combinations(range(len(THINGS)), 2))
        ground = generator.integers(0, len(GROUNDS), count)
        pair = np.array(pairs)[generator.integers(0, len(pairs), count)]
        things = np.full((count, self.side, self.side), INVALID_CLASS, np.uint8)
        for k in range(count):
            self._place(things[k], pair[k], generator)
        names = np.array([*GROUNDS, *THINGS])
        kinds = np.where(things == INVALID_CLASS, ground[:, None, None], things + len(GROUNDS))
        images = {}
        for sensor, seen in _SEEN.items():
            table = np.array([seen[n] for n in names], np.float32)
            means = np.moveaxis(table[kinds], -1, 1)
            images[sensor] = (means + generator.normal(0, self.noise, means.shape)).astype(np.float32)
        texts = [_TEMPLATES[0].format(THINGS[a], THINGS[b], GROUNDS[g]) for g, (a, b) in zip(ground, pair, strict=True)]
        return Scenes(images, things, tuple(texts))

    def _place(self, things: np.ndarray, pair: np.ndarray, generator: np.random.Generator) -> None:
        """Put two things side by side, above each other, or in opposite corners: never on top of each other."""
        half = self.side // 2
        turn = int(generator.integers(0, 4))
        spots = [((0, 0), (half, half)), ((0, half), (half, 0)), ((0, 0), (0, half)), ((0, 0), (half, 0))][turn]
        rows, columns = np.mgrid[: self.side, : self.side]
        for thing, spot in zip(generator.permutation(pair), spots, strict=True):
            radii = generator.uniform(3.0, half / 2 - 1, 2)
            room = [float(s) + generator.uniform(r, half - r) for s, r in zip(spot, radii, strict=True)]
            inside = ((rows - room[0]) / radii[0]) ** 2 + ((columns - room[1]) / radii[1]) ** 2 <= 1
            things[inside] = thing


@dataclass(frozen=True, slots=True)
class Unpaired:
    """Training batches in which every scene is seen by one sensor alone; no place is ever seen by two."""

    size: int
    """Scenes in a batch."""
    seed: int = 0
    """Of the scenes; there is always another."""
    world: World = World()
    """What is drawn."""
    batches: int = 50
    """In an epoch."""

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Sample]:
        """Yield batches; see :class:`geomm.batches.Batches`."""
        for k in range(rank, self.batches, world):
            yield self.batch(number * self.batches + k)

    def batch(self, number: int) -> Sample:
        """Return a batch by its number."""
        generator = np.random.default_rng([self.seed, number])
        scenes = self.world.draw(self.size, generator)
        told = [_retold(text, generator) for text in scenes.texts]
        batch = scenes.seen_by(tuple(BANDS), told)
        sensor = generator.integers(0, len(BANDS), self.size)
        for k, name in enumerate(BANDS):
            here = torch.from_numpy(sensor == k)
            batch.present[name] = here
            batch.valid[name] &= here[:, None, None, None]
            batch.images[name] *= here[:, None, None, None, None]
        return batch


def _retold(text: str, generator: np.random.Generator) -> str:
    """Say the same in another way."""
    _, one, _, _, two, _, ground = text.split()
    first, second = generator.permutation([one, two])
    return _TEMPLATES[int(generator.integers(0, len(_TEMPLATES)))].format(first, second, ground)
