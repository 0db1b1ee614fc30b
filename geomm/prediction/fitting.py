"""Settings that fit a model: a margin as wide as what it sees, and chips as large as is good for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from geomm.dataset import Sample
from geomm.prediction.members import Member
from geomm.prediction.settings import PredictSettings

LARGE = 1024
"""Side in pixels of chips for models that may see more than they were trained on: less of it is margin. Larger ones
gain little, and take more memory."""
MANY = 3
"""Large chips along the side of a block, at most, where there is room for so many at a time: on a GPU."""
ROOM = 2**30
"""Bytes that all layers of a model may write for the chips that go through it at a time; on a CPU up to two thirds of
them were seen to be there together."""
CLOSE = 0.05
"""Mean difference of probabilities, in standard deviations of theirs, at which what lies outside of a chip counts as
without influence."""


def fitted_settings(members: Sequence[Member], shape: tuple[int, int], settings: PredictSettings) -> PredictSettings:
    """Return settings with size, halo, block and batch for some models and a grid.

    A segmentation model is shown noise, and a part of it: how far from its border the answers differ is the margin that
    it needs; the wider of that and the margin of its package is taken. Where the answers inside agree, chips may be
    larger than those that it was trained on. Other models get the chips of their package.

    Args:
        members: the models.
        shape: height and width of the grid.
        settings: all else.
    """
    size, halo = (max(getattr(m.package.contract, name) for m in members) for name in ("size", "halo"))
    small = max(shape) <= 2 * size or any(not m.dense for m in members)
    margins = [] if small else [m.margin(lambda m=m: needed_margin(m, settings)) for m in members]  # type: ignore[misc]
    if small or any(found is None for found in margins):
        return replace(settings, size=size, halo=halo, block=4 * size)
    stride = max(m.stride for m in members)
    halo = max([halo, *(found for found in margins if found is not None)])
    room, pixel = _room(settings), _bytes(members[0])
    side = max((s for s in (LARGE, LARGE // 2) if pixel * (s + 2 * halo) ** 2 <= room), default=size)
    size = max(_divided(max(shape), side, halo, max(stride, 32)), size)
    batch = max(int(room / (pixel * (size + 2 * halo) ** 2)), 1)
    many = max(LARGE // size, min(math.isqrt(batch), MANY), 1)
    return replace(settings, size=size, halo=halo, block=size * many, batch=min(batch, many**2))


def needed_margin(member: Member, settings: PredictSettings) -> int | None:
    """Return how many pixels at the border of a chip answer otherwise than if the model saw more, in whole cells.

    None if no margin does: the model is not one whose answers depend on what lies near.
    """
    contract = member.package.contract
    cells = -(-(contract.size + 2 * contract.halo) // member.stride)
    part, whole = cells * member.stride, 2 * cells * member.stride
    start = cells // 2 * member.stride
    asked = replace(settings, layers=(), weights=False, symmetries=1)
    image = _noise(member, whole)
    inner = image.each(lambda x: x[..., start : start + part, start : start + part] if x.ndim > 3 else x)
    try:
        with torch.inference_mode():
            far, near = (member.scores(b.to(settings.device), asked, alone=True).float().cpu() for b in (image, inner))
    except (RuntimeError, ValueError):  # models of one size only raise whatever they like
        return None
    if far.shape[-1] != whole:
        return None
    differ = (far[..., start : start + part, start : start + part] - near).abs().amax(1)[0]
    rings = _rings(differ, member.stride)
    limit = CLOSE * float(far.std((-2, -1)).mean())
    close = [float(r) <= limit for r in rings]
    inside = next((k for k in range(len(close)) if all(close[k:])), None)
    return None if inside is None or not close[-1] else max(inside, 1) * member.stride


def _rings(differ: Tensor, width: int) -> list[Tensor]:
    """Return means over rings of a width, from the border inwards."""
    side = differ.shape[-1]
    line = torch.minimum(torch.arange(side), torch.arange(side).flip(0)) // width
    ring = torch.minimum(line[:, None], line[None, :])
    return [differ[ring == k].mean() for k in range(int(ring.max()) + 1)]


def _noise(member: Member, side: int) -> Sample:
    """Return a normalised chip of noise, of every modality."""
    generator = torch.Generator().manual_seed(0)
    bands = {n: len(m.bands) for n, m in member.package.contract.modalities.items()}
    return Sample(
        {n: torch.randn(1, 1, count, side, side, generator=generator) for n, count in bands.items()},
        {n: torch.ones(1, 1, side, side, dtype=torch.bool) for n in bands},
        {},
        {n: torch.ones(1, dtype=torch.bool) for n in bands},
    )


def _room(settings: PredictSettings) -> float:
    """Return how many bytes the layers of a model may write: a third of what a GPU has.

    Not of what is free: the same scene gets the same chips, whatever else is there.
    """
    if torch.device(settings.device).type == "cuda":
        return torch.cuda.mem_get_info(settings.device)[1] / 3
    return ROOM


def _bytes(member: Member) -> float:
    """Return how much all layers write for a pixel, by what they write for a small chip."""
    side, total = 4 * max(member.stride, 8), 0

    def count(_module: object, _given: object, said: object) -> None:
        nonlocal total
        total += said.numel() * said.element_size() if isinstance(said, Tensor) else 0

    leaves = [m for m in member.model.modules() if not list(m.children())]
    hooks = [m.register_forward_hook(count) for m in leaves]
    try:
        with torch.inference_mode():
            member.model(_noise(member, side).to(next(member.model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    return total / side**2


def _divided(length: int, side: int, halo: int, step: int) -> int:
    """Return the side near to one, in whole steps, with which chips read least to cover a length."""
    choices = range(step * max(side * 3 // 4 // step, 1), step * (side * 9 // 8 // step) + 1, step)
    return min(choices, key=lambda s: (max(-(-(length - 2 * halo) // s), 1) * (s + 2 * halo), -s))
