"""What the device can do: precision of the arithmetic, and going on with less where memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from geomm.dataset import Sample
from geomm.errors import ConfigError
from geomm.prediction.settings import Precision

_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_device(name: str) -> None:
    """Refuse a device that torch does not have.

    Raises:
        ConfigError: there is none of that name here.
    """
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            "the device is not here",
            where=f"device {name!r}",
            why=str(error).splitlines()[0][:160],
            fix="use cpu; or cuda, if `geomm doctor` finds a GPU",
        ) from error


def resolved(precision: Precision, device: str) -> Precision:
    """Return the precision that ``auto`` stands for: bf16 where the device computes in it, else fp32."""
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if torch.device(device).type != "cpu":
        return "fp32"
    able = torch.cpu.get_capabilities()
    return "bf16" if able.get("amx_bf16") or able.get("avx512_bf16") else "fp32"


def arithmetic(precision: Precision, device: str) -> AbstractContextManager[object]:
    """Return the context in which a model computes in a precision; what it says of its own accord stays."""
    kind = _TYPES.get(resolved(precision, device))
    return torch.autocast(torch.device(device).type, kind, enabled=kind is not None)


class Fetched:
    """Scores on their way from the device to the host: asked for at once, waited for when they are used."""

    def __init__(self, scores: Tensor) -> None:
        self._host, self._event = scores, None
        if scores.device.type == "cuda":
            self._host = torch.empty(scores.shape, dtype=scores.dtype, pin_memory=True)
            self._host.copy_(scores, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def numpy(self) -> NDArray[Any]:
        """Return them as an array."""
        if self._event is not None:
            self._event.synchronize()
        array: NDArray[Any] = self._host.cpu().numpy()
        return array


class Sparing:
    """Calls a function with fewer samples at a time once memory did not suffice for more.

    Args:
        scores: returns one row for every sample of a batch.
        batch: samples at a time, at most.
    """

    def __init__(self, scores: Callable[[Sample], Tensor], batch: int) -> None:
        self.scores, self.batch = scores, batch

    def __call__(self, batch: Sample) -> Tensor:
        """Return the rows of a batch.

        Raises:
            ConfigError: memory does not even suffice for one sample.
        """
        while True:
            try:
                parts = [self.scores(part) for part in _parts(batch, self.batch)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self.batch == 1:
                    raise ConfigError(
                        "memory does not suffice for one chip",
                        why=str(error).splitlines()[0][:160],
                        fix="choose smaller chips, or a device with more memory",
                    ) from error
            # Outside of the handler: the error holds on to the tensors of the failed call.
            self.batch = max(min(self.batch, _count(batch)) // 2, 1)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _count(batch: Sample) -> int:
    return len(next(iter(batch.images.values())))


def _parts(batch: Sample, size: int) -> Iterator[Sample]:
    count = _count(batch)
    if count <= size:
        yield batch
        return
    for start in range(0, count, size):
        yield batch.each(lambda x, start=start: x[start : start + size])  # type: ignore[misc]


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
