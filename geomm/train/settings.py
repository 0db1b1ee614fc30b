"""How to train, and what training leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from geomm.batches import Batches, check_batches
from geomm.errors import ConfigError, did_you_mean
from geomm.models.clip import ClipModel
from geomm.models.multimodal import MultimodalModel
from geomm.transforms import Normaliser
from geomm.types import check_kind, check_real, check_whole

type Schedule = Literal["one_cycle", "cosine", "constant"]
type Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train."""

    steps: int = 200
    """Optimiser steps."""
    rate: float = 3e-3
    """Peak learning rate of AdamW."""
    schedule: Schedule = "one_cycle"
    """``one_cycle``: up for 30 % and down to nothing; ``cosine``: up for ``warmup`` steps and down; ``constant``: up
    and stay."""
    warmup: int = 0
    """Steps that ``cosine`` and ``constant`` start with, from nothing to the peak."""
    weight_decay: float = 1e-2
    """Of AdamW."""
    clip: float = 1.0
    """Largest norm of the gradient; 0 for none."""
    accumulate: int = 1
    """Batches whose gradients make one step."""
    precision: Precision = "32-true"
    """``bf16-mixed`` or ``16-mixed`` for automatic mixed precision."""
    average: float = 0.0
    """Decay of the moving average of the weights that is validated and kept (EMA); 0 for none."""
    modality_dropout: float = 0.0
    """Probability of hiding each modality of a sample, never all."""
    augment: bool = True
    """Turn and mirror every chip in a way of its own."""
    patience: int = 0
    """Epochs without a better validation loss after which training stops; 0 for never."""
    accelerator: str = "auto"
    """``auto``, ``cpu`` or ``gpu``, as Lightning names them."""
    devices: int = 1
    """Processes, one per device; more than one is distributed data parallel."""

    def __post_init__(self) -> None:
        whole = {"steps": self.steps, "accumulate": self.accumulate, "devices": self.devices}
        least = {"warmup": self.warmup, "patience": self.patience}
        fix = "for example TrainSettings(steps=500, rate=1e-3)"
        check_whole(whole, least=None, fix=fix)
        check_whole(least, least=0, fix=fix)
        real = {"rate": self.rate, "weight_decay": self.weight_decay, "clip": self.clip, "average": self.average}
        check_real(real | {"modality_dropout": self.modality_dropout}, fix=fix)
        if self.steps < 1 or not 0 < self.rate < math.inf or self.accumulate < 1 or self.devices < 1:
            raise ConfigError(
                "training needs at least one step, batch and device, and a positive rate",
                why=f"steps {self.steps}, rate {self.rate}, accumulate {self.accumulate}, devices {self.devices}",
                fix="for example TrainSettings(steps=500, rate=1e-3)",
            )
        if self.schedule not in get_args(Schedule.__value__) or self.precision not in get_args(Precision.__value__):
            raise ConfigError(
                "there is no such schedule or precision",
                why=f"{self.schedule}, {self.precision}",
                fix=_near(self.schedule, Schedule) or _near(self.precision, Precision),
            )
        if self.warmup and self.schedule == "one_cycle":
            raise ConfigError("one_cycle has a warm-up of its own", why=f"warmup {self.warmup}", fix="use cosine")
        if not (0 <= self.average < 1 and 0 <= self.modality_dropout < 1):
            raise ConfigError(
                "the average's decay and the modality dropout are at least 0 and below 1",
                why=f"average {self.average}, modality_dropout {self.modality_dropout}",
                fix="for example average=0.999 and modality_dropout=0.3",
            )


@dataclass(frozen=True, slots=True)
class TrainData:
    """What to learn from."""

    train: Batches
    """Training chips."""
    normaliser: Normaliser
    """Fitted on training pixels, or the one that pretrained weights want."""
    validation: Batches | None = None
    """Chips of other places that decide which epoch is kept; None to keep the last."""

    def __post_init__(self) -> None:
        check_batches(self.train, "train")
        fix = "write TrainData(batches, Normaliser.fit(batches))"
        check_kind(self.normaliser, Normaliser, "training needs a normaliser", fix=fix)
        if self.validation is not None:
            check_batches(self.validation, "validation")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained model with what it needs to be used."""

    model: MultimodalModel | ClipModel
    """In evaluation mode, on the CPU."""
    normaliser: Normaliser
    """Fitted on the training pixels."""
    losses: tuple[float, ...]
    """Training loss of every step."""
    validation: tuple[float, ...] = ()
    """Validation loss of every epoch."""
    temperature: float = 1.0
    """What logits are divided by, see :func:`geomm.train.calibrate`."""


OnStep = Callable[[int, float], None]
"""Told after every optimiser step: number of steps done, loss."""


def _near(name: str, names: Any) -> str:
    """Return what to write in place of a name; nothing for one that is right."""
    known = get_args(names.__value__)
    return "" if name in known else did_you_mean(name, known, f"one of {', '.join(known)}")
