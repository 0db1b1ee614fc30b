"""From cube to torch: the only place where xarray meets tensors.

Integers stay integers and calibration travels beside them until the device; a pixel that may not be used is False in
``valid``, whatever the reason (nodata, outside the grid, other split).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import dask
import numpy as np
import torch
import xarray as xr
from torch import Tensor

from geomm.chips import Chip, SpatialSplit
from geomm.cube import geobox_of
from geomm.cube.calibrate import CALIBRATION
from geomm.errors import ConfigError
from geomm.types import INVALID_CLASS, Window


@dataclass(frozen=True, slots=True)
class Sample:
    """One chip as tensors; a batch is the same with a leading axis B."""

    images: dict[str, Tensor]
    """Modality to stored numbers ``(T, C, H, W)``, float32 for float sources, else int32."""
    valid: dict[str, Tensor]
    """Modality to bool ``(T, H, W)``."""
    calibration: dict[str, Tensor]
    """Modality to float32 ``(T, C, 4)``: scale, offset, K1, K2 (NaN where not thermal)."""
    present: dict[str, Tensor] = field(default_factory=dict)
    """Modality to a bool scalar: False where the sample lacks it altogether."""
    target: Tensor | None = None
    """Class index int64 ``(H, W)``, 255 where there is none."""
    text: tuple[str, ...] = ()
    """Text tied to the place; one entry per sample in a batch."""
    bounds: Tensor | None = None
    """Left, bottom, right, top in the CRS of the grid, float64 ``(4,)``."""

    def to(self, device: str | torch.device) -> Sample:
        """Return the sample on another device."""
        return replace(self, **{f.name: _move(getattr(self, f.name), device) for f in fields(self)})


@dataclass(frozen=True, slots=True)
class Target:
    """How the labels of a cube become class indices."""

    modality: str
    """Node that holds the labels; its first band is used."""
    values: tuple[int, ...]
    """Label value of each class index; other values are ignored."""
    decode: Callable[[np.ndarray], np.ndarray] | None = None
    """Turns stored numbers into label values first, such as :func:`geomm.radiometry.cloud_classes_from_bqa`."""

    def index(self, stored: np.ndarray) -> np.ndarray:
        """Return class indices, uint8 of the same shape."""
        labels = stored if self.decode is None else self.decode(stored)
        out = np.full(labels.shape, INVALID_CLASS, np.uint8)
        for k, value in enumerate(self.values):
            out[labels == value] = k
        return out


class ChipDataset(torch.utils.data.Dataset[Sample]):
    """Chips of a cube as samples.

    Args:
        cube: lazy or loaded; each item computes its window only.
        chips: what to read.
        modalities: names of the nodes that are imagery, in the model's order; a name that the cube lacks gives a
            sample without it (``present`` False).
        target: how to make the target; None for prediction.
        split: a split and a name in it: pixels of other splits become invalid, in imagery and target alike.
        text: returns the text of a window; see :mod:`geomm.annotations`.

    Raises:
        ConfigError: no modality is in the cube.
    """

    def __init__(
        self,
        cube: xr.DataTree,
        chips: Sequence[Chip],
        modalities: Sequence[str],
        *,
        target: Target | None = None,
        split: tuple[SpatialSplit, str] | None = None,
        text: Callable[[Window], str] | None = None,
    ) -> None:
        nodes = {n: cube.children[n].to_dataset() for n in modalities if n in cube.children}
        if not nodes:
            raise ConfigError(
                "the cube has none of the modalities",
                why=f"wanted {', '.join(modalities)}; it has {', '.join(cube.children)}",
            )
        # Plain arrays, lazy or not: cutting them costs far less than cutting labelled ones, for every chip again.
        self.arrays: dict[str, tuple[Any, Any]] = {n: (node.data.data, node.valid.data) for n, node in nodes.items()}
        self.calibration = {
            n: torch.from_numpy(np.stack([node[k].to_numpy() for k in CALIBRATION], -1)).float()
            for n, node in nodes.items()
        }
        self.labels: tuple[Any, Any] | None = None
        if target is not None:
            labels = cube.children[target.modality].to_dataset().isel(time=0)
            self.labels = (labels.data.isel(band=0).data, labels.valid.data)
        self.chips, self.target, self.split, self.text = chips, target, split, text
        self.geobox = geobox_of(cube)

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> Sample:
        chip = self.chips[index]
        window = chip.read
        inside = _clip(window, self.geobox.shape)
        wanted = self.arrays if self.labels is None else self.arrays | {"": self.labels}
        cut = {n: tuple(a[(..., *inside.slices)] for a in pair) for n, pair in wanted.items()}
        (pixels,) = dask.compute(cut) if any(dask.is_dask_collection(a) for p in cut.values() for a in p) else (cut,)
        allowed = self.split[0].mask(self.split[1], window) if self.split else None
        images, valid = {}, {}
        for name in self.arrays:
            stored, good = (_pad(a, inside, window) for a in pixels[name])
            images[name] = torch.from_numpy(np.ascontiguousarray(_signed(stored)))
            valid[name] = torch.from_numpy(np.ascontiguousarray(good if allowed is None else good & allowed))
        target = self._target(pixels[""], inside, window, allowed) if self.target else None
        left, bottom, right, top = self.geobox[inside.slices].boundingbox.bbox
        return Sample(
            images,
            valid,
            dict(self.calibration),
            {name: v.any() for name, v in valid.items()},
            target,
            (self.text(window),) if self.text else (),
            torch.tensor([left, bottom, right, top], dtype=torch.float64),
        )

    def _target(
        self, pixels: tuple[np.ndarray, np.ndarray], inside: Window, window: Window, allowed: np.ndarray | None
    ) -> Tensor:
        assert self.target is not None
        stored, good = pixels
        index = self.target.index(stored)
        index[~good] = INVALID_CLASS
        full = np.full(window.shape, INVALID_CLASS, np.uint8)
        full[inside.relative_to(window).slices] = index
        if allowed is not None:
            full[~allowed] = INVALID_CLASS
        return torch.from_numpy(full).long()


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples into a batch; a modality that some samples lack is filled with invalid pixels there.

    Raises:
        ConfigError: the samples differ in the number of times, bands or pixels of a modality.
    """
    names = list(dict.fromkeys(n for s in samples for n in s.images))
    images, valid, calibration, present = {}, {}, {}, {}
    for name in names:
        like = next(s for s in samples if name in s.images)
        shapes = {tuple(s.images[name].shape) for s in samples if name in s.images}
        if len(shapes) > 1:
            raise ConfigError("samples of one batch differ in shape", where=f"modality {name}", why=str(shapes))

        def stack(part: str, name: str = name, like: Sample = like) -> Tensor:
            blank = torch.zeros_like(getattr(like, part)[name])
            return torch.stack([getattr(s, part).get(name, blank) for s in samples])

        images[name], valid[name] = stack("images"), stack("valid")
        calibration[name], present[name] = stack("calibration"), stack("present")
    targets = [s.target for s in samples if s.target is not None]
    bounds = [s.bounds for s in samples if s.bounds is not None]
    return Sample(
        images,
        valid,
        calibration,
        present,
        torch.stack(targets) if targets else None,
        tuple(t for s in samples for t in s.text),
        torch.stack(bounds) if bounds else None,
    )


def _move(value: Any, device: str | torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {k: v.to(device, non_blocking=True) for k, v in value.items()}
    return value


def _clip(window: Window, shape: Any) -> Window:
    return window.clip((int(shape[0]), int(shape[1])))


def _pad(array: np.ndarray, inside: Window, window: Window) -> np.ndarray:
    if inside == window:
        return array
    out = np.zeros((*array.shape[:-2], *window.shape), array.dtype)
    out[(..., *inside.relative_to(window).slices)] = array
    return out


def _signed(array: np.ndarray) -> np.ndarray:
    """Torch computes with few unsigned types: integers become int32, floats float32 (NaN becomes 0, it is invalid)."""
    if array.dtype.kind == "f":
        return np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return array.astype(np.int32, copy=False)
