"""Fusions by name, by when they fuse: images (early), features (mid, attention) or answers (late)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

from geomm.errors import DuplicateNameError, UnknownNameError
from geomm.models import early, late
from geomm.models.gated import GatedAttention
from geomm.models.levels import Levels
from geomm.models.mid import CellAttention, Concat, GatedSum
from geomm.models.product import low_rank_block, tensor_block
from geomm.models.tokens import Bottleneck, CoAttention, Joint, Perceiver

Stage = Literal["early", "mid", "attention", "late"]
"""When modalities meet; attention is a way of the middle."""


@dataclass(frozen=True, slots=True)
class FusionKind:
    """A fusion and when it fuses."""

    stage: Stage
    """Decides how it is built."""
    build: Callable[..., Any]
    """Early: (bands by modality, width). Mid and attention: (shapes by modality). Late: (modalities, classes)."""


def _early(merge: Any) -> FusionKind:
    return FusionKind("early", lambda bands, width: early.EarlyFusion(bands, merge, width))


def _levels(stage: Stage, block: Callable[..., Any]) -> FusionKind:
    return FusionKind(stage, partial(Levels, block=block))


_TABLE: dict[str, FusionKind] = {
    "early_concat": _early(early.ConcatImages),
    "early_sum": _early(early.SumImages),
    "early_product": _early(early.MultiplyImages),
    "concat": _levels("mid", Concat),
    "sum": _levels("mid", GatedSum),
    "tfn": _levels("mid", tensor_block),
    "lmf": _levels("mid", low_rank_block),
    "attention": _levels("attention", CellAttention),
    "co_attention": _levels("attention", CoAttention),
    "joint": _levels("attention", Joint),
    "mbt": _levels("attention", Bottleneck),
    "perceiver": _levels("attention", Perceiver),
    "gated": _levels("attention", GatedAttention),
    "late_mean": FusionKind("late", late.MeanLogits),
    "late_probability": FusionKind("late", late.MeanProbabilities),
    "late_vote": FusionKind("late", late.Vote),
    "late_weighted": FusionKind("late", late.Weighted),
    "late_product": FusionKind("late", late.ProductOfExperts),
    "late_stack": FusionKind("late", late.Stack),
}

FUSIONS: Mapping[str, FusionKind] = MappingProxyType(_TABLE)
"""Fusions by name."""


def find_fusion(name: str) -> FusionKind:
    """Return a fusion by name.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in FUSIONS:
        raise UnknownNameError.of("fusion", name, FUSIONS)
    return FUSIONS[name]


def register_fusion(name: str, block: Callable[..., Any], *, stage: Stage = "mid") -> None:
    """Add a fusion under a name, for this process; model specs and recipes know it from then on.

    Args:
        name: that specs and recipes call it by.
        block: what makes it, by stage. Of the middle and of attention: from the channels of the modalities and the
            width of the result, see :data:`geomm.models.levels.Block`. Early: a merge as in :mod:`geomm.models.early`.
            Late: a rule from the numbers of modalities and classes, a subclass of
            :class:`geomm.models.late.LateFusion`.
        stage: when it fuses.

    Raises:
        DuplicateNameError: there is a fusion of that name.
    """
    if name in _TABLE:
        raise DuplicateNameError.of("fusion", name)
    if stage == "early":
        _TABLE[name] = _early(block)
    else:
        _TABLE[name] = FusionKind("late", block) if stage == "late" else _levels(stage, block)
