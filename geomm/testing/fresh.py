"""Batches of tasks whose best answer is known, drawn anew each time, in the form that :func:`geomm.fit` trains on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from geomm.dataset import Sample
from geomm.testing.known import Drawn, Views, Xor


def sample_of(drawn: Drawn) -> Sample:
    """Return a batch as the library's own loaders make it: one time step, all of it valid."""
    images = {n: torch.from_numpy(a)[:, None] for n, a in drawn.images.items()}
    count, size = len(drawn.target), drawn.target.shape[1:]
    plain = torch.tensor([1.0, 0.0, float("nan"), float("nan")]).expand(count, 1, 1, 4)
    everywhere = torch.ones(count, 1, *size, dtype=torch.bool)
    return Sample(
        images,
        dict.fromkeys(images, everywhere),
        dict.fromkeys(images, plain),
        dict.fromkeys(images, torch.ones(count, dtype=torch.bool)),
        torch.from_numpy(drawn.target),
    )


@dataclass(frozen=True, slots=True)
class FreshBatches:
    """Batches that are drawn anew, so that nothing can be learned by heart; see :class:`geomm.batches.Batches`."""

    task: Xor | Views
    """What is drawn."""
    size: int
    """Images in a batch."""
    seed: int = 0
    """Of the generator."""
    number: int = 50
    """Batches of an epoch."""
    only: tuple[str, ...] = ()
    """Modalities that are kept; empty for all."""

    def epoch(self, number: int, *, rank: int = 0, world: int = 1) -> Iterator[Sample]:  # noqa: ARG002 - no two alike
        """Yield the batches of an epoch, others for every rank."""
        generator = np.random.default_rng([self.seed, number, rank])
        for _ in range(self.number):
            drawn = self.task.draw(self.size, generator)
            images = {n: a for n, a in drawn.images.items() if not self.only or n in self.only}
            yield sample_of(Drawn(images, drawn.target, drawn.posterior))
