"""Cut chips out of a cube: one by one, or as a stream."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geomm.chipping.ahead import Held, ReadAhead
from geomm.chipping.batch import ChipArrays, Target
from geomm.chipping.checks import check_reader, check_words
from geomm.chips import Chip, ChipOrder, Itinerary, SpatialSplit
from geomm.cube import geobox_of, kernels
from geomm.cube.areas import Areas, areas_of, new_area
from geomm.cube.calibrate import CALIBRATION
from geomm.cube.items import items_of
from geomm.cube.memory import Memory
from geomm.errors import ConfigError
from geomm.types import INVALID_CLASS, Window, check_whole

if TYPE_CHECKING:
    import xarray as xr


@dataclass
class ChipReader:
    """Reads chips of a cube.

    Raises:
        ConfigError: the cube has none of the modalities, or lacks the target; or a name that it lacks looks like a
            misspelling of a node that nobody asked for.
    """

    cube: xr.DataTree
    """Lazy or loaded."""
    chips: Sequence[Chip]
    """What to read, all of one size."""
    modalities: Sequence[str]
    """Names of the nodes that are imagery; those that the cube lacks are left out."""
    target: Target | None = None
    """How to make the target; None for none."""
    split: tuple[SpatialSplit, str] | None = None
    """A split and a name in it: pixels of other splits become invalid, in imagery and target alike."""
    text: Callable[[Window], str] | None = None
    """Returns the text of a window; see :mod:`geomm.annotations`."""
    within: float | None = None
    """Greatest distance in days of a chip's time from the time step that is read; None for any."""
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    """Threads that decode."""

    def __post_init__(self) -> None:
        check_reader(self.cube, self.chips, self.modalities, self.target, self.split)
        check_words(self.text, self.within)
        nodes = {n: self.cube.children[n].to_dataset() for n in self.modalities if n in self.cube.children}
        kernels.start()
        self.sources: dict[str, Areas] = {n: areas_of(node) for n, node in nodes.items()}
        """Where areas of every modality come from, and under the empty name those of the target."""
        self.calibration = {
            n: np.stack([node[k].to_numpy() for k in CALIBRATION], -1).astype(np.float32) for n, node in nodes.items()
        }
        """Modality to ``(time, band, 4)``."""
        self._times = {n: node["time"].to_numpy() for n, node in nodes.items()}
        if self.target is not None:
            self.sources[""] = areas_of(self.cube.children[self.target.modality].to_dataset(), first=True)
        self.memory = Memory()
        self.geobox = geobox_of(self.cube)
        self.shape = (int(self.geobox.shape[0]), int(self.geobox.shape[1]))

    def __len__(self) -> int:
        return len(self.chips)

    def read(self, numbers: Sequence[int]) -> ChipArrays:
        """Read some chips, each by itself; see :meth:`stream` for many."""
        return self.read_chips([self.chips[k] for k in numbers], numbers)

    def read_chips(self, chips: Sequence[Chip], numbers: Sequence[int]) -> ChipArrays:
        """Read any chips, each by itself; they need not be in the list."""
        held = []
        for chip in chips:
            window = chip.read.clip(self.shape)
            areas = {n: new_area(source, window.shape, self.memory) for n, source in self.sources.items()}
            for name, source in self.sources.items():
                for step in self.steps(name, [chip]):
                    source.read(step, window, areas[name])
            held.append(Held(window, areas))
        return self.cut(held, chips, numbers)

    def stream(
        self,
        batch: int,
        *,
        shuffle: int = 0,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        skip: int = 0,
    ) -> Iterator[ChipArrays]:
        """Read all chips, batch by batch, area by area.

        Args:
            batch: chips at a time; the last batch may be smaller.
            shuffle: areas in different places that are open at a time, from which batches are drawn in turn; 0 for the
                order of the grid.
            seed: of the shuffling.
            epoch: another order for each.
            rank: number of this process.
            world: processes that share the chips.
            skip: batches to leave out at the beginning, without reading them.
        """
        check_whole({"batch": batch}, fix="give how many chips a batch has, for example 16")
        order = ChipOrder(tuple(self.chips), self.shape, shuffle, seed, rank, world).epoch(epoch)
        return self.follow(Itinerary(order.visits, order.draws[skip * batch :]), batch, shuffled=shuffle > 0)

    def follow(self, order: Itinerary, batch: int, *, shuffled: bool, tidy: bool = True) -> Iterator[ChipArrays]:
        """Read chips in an order that was made before; see :meth:`stream` and, for ``tidy``, :class:`ReadAhead`."""
        left = np.bincount(order.draws[:, 0], minlength=len(order.visits))
        with ReadAhead(self, order.visits, left, shuffled=shuffled, tidy=tidy) as ahead:
            for draws in order.batches(batch):
                numbers = draws[:, 1].tolist()
                yield self.cut([ahead.get(int(v)) for v in draws[:, 0]], [self.chips[k] for k in numbers], numbers)
                for v in draws[:, 0]:
                    ahead.release(int(v))

    def steps(self, name: str, chips: Sequence[Chip]) -> list[int]:
        """Return the time steps of a modality that some chips need; none where all are too far from a chip's time."""
        if not name:
            return [0]
        times = self._times[name]
        wanted = {chip.time for chip in chips}
        if None in wanted:
            return list(range(len(times)))
        aware = (t if t.tzinfo else t.replace(tzinfo=UTC) for t in wanted if t is not None)
        moments = [np.datetime64(t.astimezone(UTC).replace(tzinfo=None), "ns") for t in aware]
        nearest = [(int(np.abs(times - m).argmin()), m) for m in moments]
        far = None if self.within is None else np.timedelta64(round(self.within * 86400e9), "ns")
        return sorted({k for k, m in nearest if far is None or abs(times[k] - m) <= far})

    def cut(self, held: Sequence[Held], chips: Sequence[Chip], numbers: Sequence[int]) -> ChipArrays:
        """Copy chips out of the areas that hold them, into one batch."""
        if len({c.read.shape for c in chips}) > 1:
            raise ConfigError(
                "chips of one batch differ in size",
                why=str(sorted({c.read.shape for c in chips})),
                fix="read chips of one size at a time, for example one ChipGrid",
            )
        allowed = [self.split[0].mask(self.split[1], c.read) for c in chips] if self.split else None
        images, valid, calibration = {}, {}, {}
        for name, table in self.calibration.items():
            near = [self.steps(name, [chip]) for chip in chips]
            _, bands, dtype = self.layout(name)
            count = 1 if chips[0].time else self.sources[name].steps
            image = self.memory.take((len(chips), count, bands, *chips[0].read.shape), dtype)
            good = self.memory.take((len(chips), count, *chips[0].read.shape), np.bool_)
            calibration[name] = np.zeros((len(chips), count, *table.shape[1:]), np.float32)
            for b, (area, steps) in enumerate(zip(held, near, strict=True)):
                if not steps:  # nothing near enough in time
                    image[b], good[b] = 0, False
                    continue
                step = slice(steps[0], steps[-1] + 1)
                _paste(area.areas[name].data[step], area.window, chips[b].read, image[b])
                _paste(area.areas[name].valid[step], area.window, chips[b].read, good[b])
                calibration[name][b] = table[step]
                if allowed is not None:
                    good[b] &= allowed[b]
            images[name], valid[name] = image, good
        return ChipArrays(
            images,
            valid,
            calibration,
            self._targets(held, chips, allowed),
            tuple(chips),
            np.array(numbers, np.int64),
            self.bounds([c.read for c in chips]),
            tuple(self.text(c.read) for c in chips) if self.text else (),
        )

    def _targets(
        self, held: Sequence[Held], chips: Sequence[Chip], allowed: Sequence[NDArray[np.bool_]] | None
    ) -> NDArray[np.uint8] | None:
        if self.target is None:
            return None
        out = np.full((len(chips), *chips[0].read.shape), INVALID_CLASS, np.uint8)
        for b, (area, chip) in enumerate(zip(held, chips, strict=True)):
            inside = chip.read.clip(self.shape)
            here, there = inside.relative_to(chip.read).slices, inside.relative_to(area.window).slices
            good = area.areas[""].valid[0][there]
            out[b][here] = self.target.index(area.areas[""].data[0, 0][there])
            if not good.all():
                out[b][here][~good] = INVALID_CLASS
            if allowed is not None:
                out[b][~allowed[b]] = INVALID_CLASS
        return out

    def bounds(self, windows: Sequence[Window]) -> NDArray[np.float64]:
        """Return left, bottom, right, top of windows in the CRS of the grid, ``(number, 4)``; cut to the grid."""
        inside = [w.clip(self.shape) for w in windows]
        a, _, left, _, e, top = self.geobox.affine[:6]
        y, x, height, width = np.array([(w.y, w.x, w.height, w.width) for w in inside], float).T
        return np.stack([left + a * x, top + e * (y + height), left + a * (x + width), top + e * y], axis=1)

    def layout(self, name: str) -> tuple[int, int, np.dtype[Any]]:
        """Return how many time steps and bands a chip of a modality has, and its dtype."""
        source = self.sources[name]
        return (1 if self.chips and self.chips[0].time else source.steps), source.bands, source.dtype

    def about(self, name: str) -> dict[str, Any]:
        """Return what the cube says of a modality: sensor, units, kind and bands."""
        node = self.cube.children[name]
        known = {k: node.attrs[k] for k in ("sensor", "units", "kind") if k in node.attrs}
        return known | {"bands": [str(b) for b in node["band"].to_numpy()]}

    def items(self, name: str) -> list[str]:
        """Return the ids of the items that a modality was loaded from."""
        return [i for step in items_of(self.cube.children[name].to_dataset()) for i in step]

    def table(self) -> Any:
        """Return a GeoDataFrame in degrees, one row for every chip: ``chip, y, x, size``, ``split`` and footprint."""
        import geopandas
        import shapely

        boxes = self.bounds([c.read for c in self.chips])
        columns = {n: [getattr(c.read, n) for c in self.chips] for n in ("y", "x")}
        frame = geopandas.GeoDataFrame(
            {"chip": range(len(self.chips)), **columns, "size": [c.read.height for c in self.chips]},
            geometry=shapely.box(*boxes.T),
            crs=str(self.geobox.crs),
        )
        return (frame.assign(split=self.split[1]) if self.split else frame).to_crs("EPSG:4326")

    @property
    def time(self) -> str:
        """The first time of the cube, where chips have none of their own."""
        return str(min(t.min() for t in self._times.values()))[:19]


def _paste(source: NDArray[Any], area: Window, window: Window, out: NDArray[Any]) -> None:
    """Copy a window out of an area; 0 or False where the window reaches beyond the grid."""
    y, x = window.y - area.y, window.x - area.x
    y0, x0 = max(y, 0), max(x, 0)
    y1, x1 = min(y + window.height, area.height), min(x + window.width, area.width)
    if (y1 - y0, x1 - x0) != window.shape:
        out[...] = 0
    out[..., y0 - y : y1 - y, x0 - x : x1 - x] = source[..., y0:y1, x0:x1]
