"""From chips to torch: the only place where arrays become tensors.

Integers stay integers and calibration travels beside them until the device; a pixel that may not be used is False in
``valid``, whatever the reason (nodata, outside the grid, other split).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from geomm.chipping import ChipArrays, ChipReader, ChipViews, Target
from geomm.errors import ConfigError
from geomm.types import Window

if TYPE_CHECKING:
    import xarray as xr

    from geomm.chips import Chip, SpatialSplit

__all__ = ["ChipDataset", "ChipLoader", "ChipSource", "Sample", "Target", "collate"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One chip as tensors; a batch is the same with a leading axis B."""

    images: dict[str, Tensor]
    """Modality to stored numbers ``(T, C, H, W)``, in the stored dtype; 0 where a band holds nothing."""
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
    index: Tensor | None = None
    """Position in the list of chips it was read from, int64 scalar."""

    def to(self, device: str | torch.device) -> Sample:
        """Return the sample on another device."""
        return self.each(lambda x: x.to(device, non_blocking=True))

    def pin_memory(self) -> Sample:
        """Return the sample in page-locked memory, from which a GPU copies while the host goes on."""
        return self.each(Tensor.pin_memory)

    def each(self, change: Callable[[Tensor], Tensor]) -> Sample:
        """Return the sample with every tensor changed."""
        return replace(self, **{f.name: _changed(getattr(self, f.name), change) for f in fields(self)})


LANES = 8
"""Places that are open at a time where shuffling is asked for and no number given."""


class ChipSource(Protocol):
    """What samples are made of: chips of a cube (:class:`ChipDataset`) or of a store (:class:`geomm.StoredChips`)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def stream(
        self, batch: int, *, shuffle: int, seed: int, epoch: int, rank: int, world: int, skip: int
    ) -> Iterator[ChipArrays]:
        """Yield batches; see :meth:`geomm.chipping.ChipReader.stream`."""
        ...


class ChipDataset(ChipViews, torch.utils.data.Dataset[Sample]):
    """Chips of a cube as samples.

    Args:
        cube: lazy or loaded; each item computes its window only. :class:`ChipLoader` reads many at once.
        chips: what to read.
        modalities: names of the nodes that are imagery, in the model's order; a name that the cube lacks gives a
            sample without it (``present`` False).
        target: how to make the target; None for prediction.
        split: a split and a name in it: pixels of other splits become invalid, in imagery and target alike.
        text: returns the text of a window; see :mod:`geomm.annotations`.
        within: greatest distance in days of a chip's time from the time step that is read.

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
        within: float | None = None,
    ) -> None:
        self.chips = chips
        self.reader = ChipReader(cube, chips, modalities, target=target, split=split, text=text, within=within)

    def __len__(self) -> int:
        return len(self.chips)

    def __getitem__(self, index: int) -> Sample:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return one(to_sample(self.reader.read([index % len(self)])))

    def read(self, numbers: Sequence[int]) -> ChipArrays:
        """Read some chips as arrays; see :meth:`geomm.chipping.ChipReader.read`."""
        return self.reader.read(numbers)

    def streams(self) -> dict[str, dict[str, Any]]:
        """Return modality to sensor, bands and units."""
        return {n: self.reader.about(n) for n in self.reader.sources if n}

    @cached_property
    def table(self) -> Any:
        """A GeoDataFrame in degrees, one row for every chip: ``chip, y, x, size, split`` and footprint."""
        return self.reader.table()

    def stream(self, batch: int, **options: int) -> Iterator[ChipArrays]:
        """Yield batches of arrays; see :meth:`geomm.chipping.ChipReader.stream`."""
        return self.reader.stream(batch, **options)


class ChipLoader(torch.utils.data.IterableDataset[Sample]):
    """Batches of all chips, read area by area in threads of this process: each source block is decoded about once.

    Give it to a model as it is, or to ``torch.utils.data.DataLoader(loader, batch_size=None)``. Worker processes of the
    latter and the ranks of a distributed run share the chips among them. Worker processes work on copies: with them,
    set ``epoch`` before every pass, and load the state before one that goes on where another was.

    Args:
        source: chips of a cube or of a store.
        batch: chips at a time.
        shuffle: areas in different places from which batches are drawn in turn; 0 for the order of the grid, True
            for :data:`LANES` of them.
        seed: of the shuffling; every whole pass over the loader is another epoch with another order.
        rank: number of this process among ``world``; by default those of ``torch.distributed``, where it runs.
        world: processes that share the chips.

    Raises:
        ConfigError: a batch of no chips, or of a part of one; or no number of places.
    """

    def __init__(
        self,
        source: ChipSource,
        batch: int,
        *,
        shuffle: int | bool = 0,
        seed: int = 0,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        if not isinstance(batch, int) or batch < 1:
            raise ConfigError(
                "a batch holds at least one chip",
                why=f"batch {batch!r}",
                fix="give a whole number of at least 1, for example ChipLoader(dataset, 16)",
            )
        if not hasattr(source, "stream"):
            fix = "give a ChipDataset, or StoredChips: ChipLoader(ChipDataset(cube, chips, names), 16)"
            raise ConfigError("this is no source of chips", where=repr(type(source)), fix=fix)
        if not isinstance(shuffle, int) or shuffle < 0:
            fix = "write shuffle=True, or how many places are open at a time: shuffle=8"
            raise ConfigError("shuffle is no number of places", where=f"shuffle {shuffle!r}"[:80], fix=fix)
        running = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.source, self.batch, self.seed = source, batch, seed
        self.shuffle = LANES if shuffle is True else int(shuffle)
        self.rank = rank if rank is not None else torch.distributed.get_rank() if running else 0
        self.world = world if world is not None else torch.distributed.get_world_size() if running else 1
        self.epoch, self._done, self._skip = 0, 0, 0

    def _shape(self) -> dict[str, int]:
        """Return what batches depend on besides epoch and seed."""
        return {"batch": self.batch, "shuffle": self.shuffle, "world": self.world, "chips": len(self.source)}

    def state_dict(self) -> dict[str, int]:
        """Return where the loader is: the epoch, how many of its batches were handed out, and what they depend on."""
        return {"epoch": self.epoch, "done": self._done, "seed": self.seed, **self._shape()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on, in the next pass, where another loader over the same chips was; only later passes are whole again.

        Raises:
            ConfigError: its batches, shuffling, processes or chips were others, so that chips would be lost.
        """
        other = [f"{k} {state.get(k)}, here {v}" for k, v in self._shape().items() if state.get(k) != v]
        if other:
            raise ConfigError(
                "the state is that of another loader",
                why="; ".join(other),
                fix="make the loader with the batch, shuffle, seed and chips that it had, then load the state",
            )
        self.epoch, self.seed = state["epoch"], state["seed"]
        self._done = self._skip = state["done"]

    def __iter__(self) -> Iterator[Sample]:
        worker = torch.utils.data.get_worker_info()
        number, count = (worker.id, worker.num_workers) if worker else (0, 1)
        self._done, self._skip = self._skip, 0
        stream = self.source.stream(
            self.batch,
            shuffle=self.shuffle,
            seed=self.seed,
            epoch=self.epoch,
            rank=self.rank * count + number,
            world=self.world * count,
            skip=-(-(self._done - number) // count),
        )
        for arrays in stream:
            self._done += 1
            yield to_sample(arrays)
        self.epoch, self._done = self.epoch + 1, 0


def to_sample(arrays: ChipArrays) -> Sample:
    """Return a batch of arrays as tensors, without copying."""
    images, valid, calibration = (
        {n: torch.from_numpy(a) for n, a in part.items()} for part in (arrays.images, arrays.valid, arrays.calibration)
    )
    return Sample(
        images,
        valid,
        calibration,
        {n: v.flatten(1).any(1) for n, v in valid.items()},
        None if arrays.target is None else torch.from_numpy(arrays.target).long(),
        arrays.text,
        torch.from_numpy(arrays.bounds),
        torch.from_numpy(arrays.index),
    )


def one(batch: Sample) -> Sample:
    """Take the only sample out of a batch."""
    return batch.each(lambda x: x[0])


def collate(samples: Sequence[Sample]) -> Sample:
    """Stack samples into a batch; a modality that some samples lack is filled with invalid pixels there.

    Raises:
        ConfigError: the samples differ in the number of times, bands or pixels of a modality.
    """
    if not samples:
        raise ConfigError("there is no sample", fix="collate at least one: collate([dataset[0], dataset[1]])")
    names = list(dict.fromkeys(n for s in samples for n in s.images))
    images, valid, calibration, present = {}, {}, {}, {}
    for name in names:
        like = next(s for s in samples if name in s.images)
        shapes = {tuple(s.images[name].shape) for s in samples if name in s.images}
        if len(shapes) > 1:
            raise ConfigError(
                "samples of one batch differ in shape",
                where=f"modality {name}",
                why=str(shapes),
                fix="collate chips of one cube and one size; ChipLoader makes batches that fit",
            )

        def stack(part: str, name: str = name, like: Sample = like) -> Tensor:
            blank = torch.zeros_like(getattr(like, part)[name])
            return torch.stack([getattr(s, part).get(name, blank) for s in samples])

        images[name], valid[name] = stack("images"), stack("valid")
        calibration[name], present[name] = stack("calibration"), stack("present")
    targets = [s.target for s in samples if s.target is not None]
    bounds = [s.bounds for s in samples if s.bounds is not None]
    indexes = [s.index for s in samples if s.index is not None]
    return Sample(
        images,
        valid,
        calibration,
        present,
        torch.stack(targets) if targets else None,
        tuple(t for s in samples for t in s.text),
        torch.stack(bounds) if bounds else None,
        torch.stack(indexes) if indexes else None,
    )


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {k: change(v) for k, v in value.items()}
    return value
