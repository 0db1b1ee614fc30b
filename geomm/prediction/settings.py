"""How a map is made: what is read and written at a time, how overlaps are merged, in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geomm.errors import ConfigError, did_you_mean
from geomm.mosaic import BLENDS
from geomm.tasks.maps import LAYERS
from geomm.types import check_known, check_whole

Precision = Literal["auto", "fp32", "bf16", "fp16"]
"""Of the model's arithmetic; ``auto`` is bf16 where the device has instructions for it, else fp32."""
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SYMMETRIES = (1, 4, 8)
"""Numbers of views of a chip: itself; with its half turn and mirror images; with all symmetries of the square."""


@dataclass(frozen=True, slots=True)
class PredictSettings:
    """How to cut, batch and compute. ``block`` and ``batch`` do not change the result, but for rounding."""

    size: int = 256
    """Chip that is written, in pixels."""
    halo: int = 32
    """Margin that is read on each side; at least the receptive field for a result without seams."""
    block: int = 1024
    """Output block in pixels, a multiple of ``size``: what is held in memory, and what a worker does at a time."""
    batch: int = 4
    """Chips at a time; halved by itself where memory does not suffice."""
    blend: str = "trim"
    """``trim`` or ``hann``, see :mod:`geomm.mosaic`."""
    device: str = "cpu"
    """Torch device."""
    weights: bool = False
    """Also map the share that each modality has in the answer, where the fusion has shares."""
    layers: tuple[str, ...] = ()
    """What to map, see :data:`geomm.tasks.maps.LAYERS`; empty for what the task answers with."""
    precision: Precision = "auto"
    """Arithmetic of the model."""
    symmetries: int = 1
    """Views of every chip whose answers are averaged, one of :data:`SYMMETRIES`."""
    threads: int | None = None
    """Threads of the model on a CPU; None for those that torch has here. The last digits of fp32 depend on them:
    workers of a cluster use as many as the process that asks them."""
    compiled: bool = False
    """Compile the model first (``torch.compile``): worth it for many scenes on a GPU."""

    def __post_init__(self) -> None:
        layers: object = self.layers
        if isinstance(layers, str):
            raise ConfigError("layers is one text", where=f"layers {self.layers!r}", fix=f"write ({self.layers!r},)")
        numbers = {"size": self.size, "halo": self.halo, "block": self.block, "batch": self.batch}
        check_whole(numbers, least=None, fix="give whole pixels, or leave it out")
        threads = {} if self.threads is None else {"threads": self.threads}
        check_whole(threads, least=None, fix="write threads=4, or leave it out")
        for layer in self.layers:
            check_known("layer of class maps", layer, LAYERS)
        for what, number, least in (
            ("chip size", self.size, 1),
            ("margin", self.halo, 0),
            ("block", self.block, 1),
            ("batch", self.batch, 1),
            ("number of threads", 1 if self.threads is None else self.threads, 1),
        ):
            if number < least:
                raise ConfigError(
                    f"the {what} is too small",
                    why=f"got {number}, at least {least} is needed",
                    fix=f"give {least} or more, or leave it out",
                )
        if self.block % self.size:
            raise ConfigError(
                "the block is not a multiple of the chip size",
                why=f"block {self.block}, size {self.size}, halo {self.halo}, batch {self.batch}",
                fix="leave block out, or give a multiple of size",
            )
        for name, value, known in (
            ("blend", self.blend, BLENDS),
            ("precision", self.precision, PRECISIONS),
            ("number of symmetries", self.symmetries, SYMMETRIES),
        ):
            if value not in known:
                raise ConfigError(
                    f"unknown {name} {value!r}",
                    why=f"known: {', '.join(map(str, known))}",
                    fix=did_you_mean(str(value), known, f"use one of {', '.join(map(str, known))}"),
                )
