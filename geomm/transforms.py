"""What happens to a batch on the device before the model: calibrate, normalise, zero what is invalid, augment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from geomm.batches import Batches
from geomm.dataset import Sample
from geomm.errors import ConfigError, ContractError, SplitError
from geomm.types import check_kind


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Mean and standard deviation per band in physical units, fitted on valid training pixels only."""

    mean: Mapping[str, tuple[float, ...]]
    """Modality to one value per band."""
    std: Mapping[str, tuple[float, ...]]
    """Modality to one positive value per band."""
    decibels: tuple[str, ...] = ()
    """Modalities whose backscatter is turned from power into decibels first."""
    ceiling: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Modality to one value per band, for those that are clipped to 0 .. ceiling first."""
    by_image: tuple[str, ...] = ()
    """Modalities whose every band of every image goes from its own mean - 2 standard deviations to its mean + 2, which
    become 0 and 1, clipped; mean and std are not used."""

    def __post_init__(self) -> None:
        fix = 'for example Normaliser({"optical": (0.1, 0.2)}, {"optical": (0.05, 0.1)}), or Normaliser.fit(batches)'
        for table in (self.mean, self.std):
            check_kind(table, Mapping, "a normaliser has one value for every band of every modality", fix=fix)
        lengths = [{n: len(v) for n, v in table.items()} for table in (self.mean, self.std)]
        if lengths[0] != lengths[1] or not self.mean:
            why = f"means of {lengths[0] or 'nothing'}, standard deviations of {lengths[1] or 'nothing'}"
            raise ConfigError("mean and standard deviation are of the same bands", why=why, fix=fix)
        for name, values in self.std.items():
            if not all(0 < v < math.inf for v in values) or not all(map(math.isfinite, self.mean[name])):
                why = f"mean {self.mean[name]}, standard deviation {values}"
                what = "a mean is a number, a standard deviation one above 0"
                raise ConfigError(what, where=f"modality {name}", why=why, fix=fix)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Normaliser:
        """Read what ``dataclasses.asdict`` and JSON made of one."""
        tables = {k: {n: tuple(v) for n, v in raw.get(k, {}).items()} for k in ("mean", "std", "ceiling")}
        return cls(**tables, decibels=tuple(raw.get("decibels", ())), by_image=tuple(raw.get("by_image", ())))

    @classmethod
    def fit(cls, samples: Iterable[Sample] | Batches) -> Normaliser:
        """Accumulate over samples or batches.

        Args:
            samples: a dataset, a loader, or any samples; of :class:`geomm.ChipBatches` their first epoch.

        Raises:
            SplitError: a modality has no valid pixel, or there is no sample.
            ConfigError: these are no samples.
        """
        epoch = getattr(samples, "epoch", None)
        given = cast("Callable[[int], Iterable[Sample]]", epoch)(0) if callable(epoch) else samples
        fix = "write Normaliser.fit(batches) with batches = ChipBatches([dataset], 16)"
        if not hasattr(given, "__iter__") and not hasattr(given, "__getitem__"):
            raise ConfigError("these are no samples", why=f"got {type(given).__name__}", fix=fix)
        sums: dict[str, Tensor] = {}
        for sample in cast("Iterable[Sample]", given):
            check_kind(sample, Sample, "these are no samples", fix=fix)
            for name, stored in sample.images.items():
                value = physical(stored, sample.calibration[name]).double().movedim(-3, 0)
                value = value[:, sample.valid[name]]
                part = torch.stack([torch.ones(len(value)).double() * value.shape[1], value.sum(1), (value**2).sum(1)])
                sums[name] = sums.get(name, torch.zeros_like(part)) + part
        if not sums:
            raise SplitError("there is no sample to fit the normalisation on", fix="give batches that hold chips")
        mean, std = {}, {}
        for name, (count, total, square) in sums.items():
            if count[0] == 0:
                raise SplitError(
                    "no valid pixel to fit the normalisation on",
                    where=f"modality {name}",
                    fix="look at cube[NAME]['status'], which says why; or take other blocks for training",
                )
            average = total / count
            mean[name] = tuple(average.tolist())
            std[name] = tuple((square / count - average**2).clamp_min(1e-12).sqrt().clamp_min(1e-6).tolist())
        return cls(mean, std)

    def __call__(self, batch: Sample) -> Sample:
        """Return the batch with images ready for the model: float32, zero mean, unit variance, 0 where invalid.

        Raises:
            ContractError: a modality or its number of bands is not what was fitted.
        """
        images = {}
        for name, stored in batch.images.items():
            mean, std = (v.to(stored.device)[:, None, None] for v in self.line(name, stored.shape[-3]))
            valid, calibration = batch.valid[name], batch.calibration[name]
            if name in self.decibels or name in self.ceiling or name in self.by_image:
                value = self._prepared(name, physical(stored, calibration), valid)
                images[name] = value if name in self.by_image else _standardised(value, valid, mean, std)
            else:
                images[name] = _normalised(stored, valid, calibration, mean, std)
        return replace(batch, images=images)

    def line(self, name: str, bands: int) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of a modality, float32 ``(C,)``.

        Raises:
            ContractError: it, or its number of bands, is not what was fitted.
        """
        if len(self.mean.get(name, ())) != bands:
            raise ContractError(
                "the normalisation does not fit the imagery",
                where=f"modality {name}",
                why=f"{bands} bands; fitted on { ({n: len(m) for n, m in self.mean.items()}) }",
                fix="load the bands that it was fitted on, or fit it again: Normaliser.fit(batches)",
            )
        mean, std = (torch.tensor(v[name], dtype=torch.float32) for v in (self.mean, self.std))
        return mean, std

    def _prepared(self, name: str, value: Tensor, valid: Tensor) -> Tensor:
        """Convert, clip or stretch physical values as the weights of a modality want it."""
        if name in self.decibels:
            value = 10.0 * value.clamp_min(1e-5).log10()  # -50 dB at least, as in radiometry.to_db
        if name in self.ceiling:
            top = torch.tensor(self.ceiling[name], dtype=torch.float32, device=value.device)[:, None, None]
            value = torch.minimum(value.clamp_min(0.0), top)
        if name not in self.by_image:
            return value
        mask = valid.unsqueeze(-3)
        count = mask.sum((-2, -1), keepdim=True).clamp_min(1)
        value = value.masked_fill(~mask, 0.0)
        mean = value.sum((-2, -1), keepdim=True) / count
        std = (((value - mean) * mask) ** 2).sum((-2, -1), keepdim=True).div(count).sqrt().clamp_min(1e-6)
        return ((value - mean) / (4 * std) + 0.5).clamp(0.0, 1.0).masked_fill(~mask, 0.0)


def to_physical(batch: Sample) -> Sample:
    """Return the batch with images in physical units, float32, 0 where invalid."""
    images = {
        n: physical(x, batch.calibration[n]).masked_fill_(~batch.valid[n].unsqueeze(-3), 0.0)
        for n, x in batch.images.items()
    }
    return replace(batch, images=images)


def physical(
    stored: Shaped[Tensor, "*b t c h w"], calibration: Float[Tensor, "*b t c 4"]
) -> Float[Tensor, "*b t c h w"]:
    """Calibrate stored numbers: the twin of :func:`geomm.radiometry.to_physical` on the device."""
    scale, offset, k1, k2 = (v[..., None, None] for v in calibration.unbind(-1))
    value = stored.float() * scale + offset
    thermal = torch.isfinite(k1)
    if not bool(thermal.any()):
        return value
    k1, k2 = torch.nan_to_num(k1, nan=1.0), torch.nan_to_num(k2, nan=1.0)
    return torch.where(thermal, k2 / torch.log(k1 / value.clamp_min(1e-6) + 1.0), value)


def _normalised(
    stored: Shaped[Tensor, "*b t c h w"],
    valid: Bool[Tensor, "*b t h w"],
    calibration: Float[Tensor, "*b t c 4"],
    mean: Float[Tensor, "c 1 1"],
    std: Float[Tensor, "c 1 1"],
) -> Float[Tensor, "*b t c h w"]:
    """Calibrate, normalise and mask: for integers that are calibrated by a line, one multiplication and addition."""
    scale, offset, k1, _ = (v[..., None, None] for v in calibration.unbind(-1))
    if stored.is_floating_point() or bool(torch.isfinite(k1).any()):
        return _standardised(physical(stored, calibration), valid, mean, std)
    return stored.float().mul_(scale / std).add_((offset - mean) / std).mul_(valid.unsqueeze(-3))


def _standardised(value: Tensor, valid: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Normalise physical values; 0 where invalid, which may be NaN."""
    return value.sub(mean).div_(std).masked_fill_(~valid.unsqueeze(-3), 0.0)


def augment(batch: Sample, generator: torch.Generator) -> Sample:
    """Turn and mirror every sample in a way of its own, all modalities, masks and targets alike.

    The ways are the eight symmetries of the square, or the four of the rectangle. Before normalisation there are fewer
    bytes to move.

    Args:
        batch: stored or normalised.
        generator: source of randomness.
    """
    count, *_, height, width = next(iter(batch.images.values())).shape
    turns, mirrors = (torch.randint(0, n, (count,), generator=generator).tolist() for n in (4, 2))
    if height != width:  # only half turns keep the shape
        turns = [turn // 2 * 2 for turn in turns]

    def moved(x: Tensor, turn: int, mirror: int) -> Tensor:
        x = torch.rot90(x, turn, (-2, -1))
        return x.flip(-1) if mirror else x

    def move(x: Tensor) -> Tensor:
        return torch.stack([moved(*each) for each in zip(x, turns, mirrors, strict=True)])

    return replace(
        batch,
        images={n: move(x) for n, x in batch.images.items()},
        valid={n: move(x) for n, x in batch.valid.items()},
        target=None if batch.target is None else move(batch.target),
    )


def drop_modalities(batch: Sample, probability: float, generator: torch.Generator) -> Sample:
    """Make modalities invalid at random, per sample, but never all that a sample has.

    Args:
        batch: a batch; normalised images become 0 where they are dropped.
        probability: of dropping each modality.
        generator: source of randomness.
    """
    names = list(batch.images)
    present = torch.stack([batch.present[n] for n in names])
    drop = torch.rand(present.shape, generator=generator).to(present.device) < probability
    keep = present & ~drop
    # A sample that would lose everything keeps the present modality with the highest random score.
    scores = torch.rand(present.shape, generator=generator).to(present.device).masked_fill(~present, -1.0)
    rescue = torch.nn.functional.one_hot(scores.argmax(0), len(names)).T.bool() & ~keep.any(0)
    keep = keep | (rescue & present)
    images, valid, left = dict(batch.images), dict(batch.valid), dict(batch.present)
    for name, flag in zip(names, keep, strict=True):
        images[name], valid[name] = blank(images[name], valid[name], flag)
        left[name] = flag
    return replace(batch, images=images, valid=valid, present=left)


def blank(
    image: Shaped[Tensor, "b t c h w"], valid: Bool[Tensor, "b t h w"], keep: Bool[Tensor, " b"]
) -> tuple[Shaped[Tensor, "b t c h w"], Bool[Tensor, "b t h w"]]:
    """Zero the samples of a modality that are not kept."""
    flag = keep[:, None, None, None]
    return torch.where(flag.unsqueeze(-1), image, torch.zeros_like(image)), valid & flag
