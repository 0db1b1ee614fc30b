"""Normalise a batch on the host, where the model computes: stored integers to channels last in one pass.

The numbers are those of :class:`geomm.transforms.Normaliser`; the layout is the one in which convolutions are fastest
on a CPU. One thread is enough, and leaves the others to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomm.cube.memory import Memory
from geomm.dataset import Sample
from geomm.errors import ContractError
from geomm.transforms import Normaliser, to_physical

RUN = 256
"""Pixels of a row that are written band by band before the next: few enough for the fastest cache."""
SPARE = 256
"""Megabytes of unused memory that are kept for the next batch."""
STACKED = "stacked"
"""Name of the bands of all modalities together."""


@dataclass(frozen=True, slots=True)
class HostNormaliser:
    """Normalises into channels last; see :class:`geomm.transforms.Normaliser`."""

    inner: Normaliser | None
    """What to do; None for physical values as they are."""
    memory: Memory = field(default_factory=lambda: Memory(SPARE))
    """Used again: the first touch of fresh memory takes three times as long as all the rest."""

    def __call__(self, batch: Sample) -> Sample:
        """Return the batch with images ready for the model, float32, 0 where invalid."""
        return replace(batch, images={n: self._image(batch, n) for n in batch.images})

    def stacked(self, batch: Sample, names: Sequence[str], *, half: bool = False) -> Sample:
        """Return the batch with one image: the bands of some modalities, one after the other, time by time.

        Args:
            batch: stored numbers.
            names: of the modalities.
            half: round to bfloat16, for a network that would do so first.

        Raises:
            ContractError: the batch lacks a modality.
        """
        missing = [n for n in names if n not in batch.images]
        if missing:
            raise ContractError(
                f"the network needs modality {', '.join(missing)}",
                why=f"the imagery has {', '.join(batch.images)}",
                fix="load it, or use a model that can do without",
            )
        counts = [batch.images[n].shape[1] * batch.images[n].shape[2] for n in names]
        first = batch.images[names[0]]
        shape = (len(first), *first.shape[-2:], sum(counts))
        out = torch.from_numpy(self.memory.take(shape, np.int16)).view(torch.bfloat16) if half else self._take(*shape)
        for name, part in zip(names, torch.split(out, counts, -1), strict=True):
            times, bands = batch.images[name].shape[1:3]
            self._into(batch, name, part.view(*part.shape[:-1], times, bands).permute(0, 3, 4, 1, 2))
        image = out.permute(0, 3, 1, 2).unsqueeze(1)
        valid = torch.stack([batch.valid[n].any(1) for n in names]).any(0)
        return replace(batch, images={STACKED: image}, valid={STACKED: valid.unsqueeze(1)})

    def _image(self, batch: Sample, name: str) -> Tensor:
        count, times, bands, height, width = batch.images[name].shape
        out = self._take(count, times, height, width, bands).permute(0, 1, 4, 2, 3)
        self._into(batch, name, out)
        return out

    def _take(self, *shape: int) -> Tensor:
        return torch.from_numpy(self.memory.take(shape, np.float32))

    def _into(self, batch: Sample, name: str, out: Tensor) -> None:
        """Write an image to ``(B, T, C, H, W)`` of any strides."""
        stored, table = batch.images[name], batch.calibration[name]
        linear = not stored.is_floating_point() and not bool(torch.isfinite(table[..., 2]).any())
        plain = self.inner is None or not (
            name in self.inner.decibels or name in self.inner.ceiling or name in self.inner.by_image
        )
        if not (linear and plain):
            one = replace(batch, images={name: stored})
            ready = to_physical(one) if self.inner is None else self.inner(one)
            out.copy_(ready.images[name])
            return
        scale, offset = table[..., 0], table[..., 1]
        if self.inner is not None:
            mean, std = self.inner.line(name, stored.shape[2])
            scale, offset = scale / std, (offset - mean) / std
        given = stored.numpy(), batch.valid[name].numpy(), scale.numpy(), offset.numpy()
        if out.dtype == torch.bfloat16:
            _rounded_lines(*given, out.view(torch.int16).numpy().view(np.uint16))
        else:
            _lines(*given, out.numpy())


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _lines(
    stored: NDArray[Any], valid: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any], out: NDArray[Any]
) -> None:
    """Write ``stored * scale + offset`` where valid, else 0."""
    for b in range(stored.shape[0]):
        for t in range(stored.shape[1]):
            for y in range(stored.shape[3]):
                for start in range(0, stored.shape[4], RUN):
                    end = min(start + RUN, stored.shape[4])
                    good = valid[b, t, y, start:end]
                    for c in range(stored.shape[2]):
                        row, to = stored[b, t, c, y, start:end], out[b, t, c, y, start:end]
                        a, d = scale[b, t, c], offset[b, t, c]
                        for x in range(end - start):
                            to[x] = np.float32(row[x]) * a + d if good[x] else np.float32(0.0)


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _rounded_lines(
    stored: NDArray[Any], valid: NDArray[Any], scale: NDArray[Any], offset: NDArray[Any], out: NDArray[Any]
) -> None:
    """Write the same, rounded to bfloat16: the upper half of a float32, to the nearest, ties to even."""
    line = np.empty(RUN, np.float32)
    bits = line.view(np.uint32)
    for b in range(stored.shape[0]):
        for t in range(stored.shape[1]):
            for y in range(stored.shape[3]):
                for start in range(0, stored.shape[4], RUN):
                    end = min(start + RUN, stored.shape[4])
                    good = valid[b, t, y, start:end]
                    for c in range(stored.shape[2]):
                        row, to = stored[b, t, c, y, start:end], out[b, t, c, y, start:end]
                        a, d = scale[b, t, c], offset[b, t, c]
                        for x in range(end - start):
                            line[x] = np.float32(row[x]) * a + d if good[x] else np.float32(0.0)
                        for x in range(end - start):
                            value = bits[x]
                            to[x] = (
                                value + np.uint32(0x7FFF) + ((value >> np.uint32(16)) & np.uint32(1))
                            ) >> np.uint32(16)
