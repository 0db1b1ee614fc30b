"""To torchgeo: a cube as a GeoDataset for its samplers and transforms."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from geomm.chipping import ChipReader, Target
from geomm.chips import Chip
from geomm.errors import ConfigError, GridError
from geomm.sensors import get_sensor
from geomm.types import Window

if TYPE_CHECKING:
    import xarray as xr

SERIES = ("mosaic", "series")
"""What becomes of several time steps of a sample."""


def to_torchgeo(
    cube: xr.DataTree,
    modalities: Sequence[str],
    *,
    target: Target | None = None,
    times: Literal["mosaic", "series"] = "mosaic",
    transforms: Callable[[Any], Any] | None = None,
) -> Any:
    """Return a cube as a torchgeo ``GeoDataset``: its samplers, transforms, ``&``, ``|`` and ``plot`` work on it.

    Its index has a row for every time step of the first modality, and the time of a query selects among them; of the
    other modalities the time step nearest to each is read. Samples hold ``image`` (float32 ``(C, H, W)``, the bands of
    all modalities one after the other, in physical units, 0 where invalid), ``mask_valid`` (bool, of the same shape;
    named so that kornia turns it with the image), with a target ``mask`` (int64 ``(H, W)``, 255 where there is none),
    ``bounds`` and ``transform`` as torchgeo has them.

    Args:
        cube: lazy or loaded.
        modalities: in the order of their bands.
        target: how to make the mask.
        times: what becomes of several time steps in the time of a query: ``mosaic`` takes the first valid pixel of each
            modality, ``series`` stacks them, ``(T, C, H, W)``.
        transforms: a function of a sample, such as an ``AugmentationSequential`` of kornia.

    Raises:
        ConfigError: the cube has none of the modalities; another word for ``times``.
    """
    if times not in SERIES:
        raise ConfigError("unknown way to put times together", where=f"times {times!r}", fix=f"one of {SERIES}")
    if isinstance(modalities, str):
        raise ConfigError("modalities is one text", where=repr(modalities), fix=f"give a list: [{modalities!r}]")
    windows = _Windows(cube, tuple(modalities), target, times)
    made: Any = _dataset_class()(windows, transforms)
    return made


@dataclass
class _Windows:
    """Samples of a cube by their place and time."""

    cube: xr.DataTree
    modalities: tuple[str, ...]
    target: Target | None
    times: str
    reader: ChipReader = field(init=False)
    moments: np.ndarray = field(init=False)
    """Time steps of the first modality, in order."""
    bands: tuple[str, ...] = field(init=False)
    """Names of the channels; those of a second modality carry its name where they would be the same."""
    shown: tuple[int, int, int] = field(init=False)
    """Channels of a picture."""

    def __post_init__(self) -> None:
        self.reader = ChipReader(self.cube, [], self.modalities, target=self.target)
        mine = [n for n in self.reader.sources if n]
        self.moments = np.unique(self.cube.children[mine[0]]["time"].to_numpy().astype("datetime64[ns]"))
        names = [(n, b) for n in mine for b in self.reader.about(n)["bands"]]
        plain = [b for _, b in names]
        self.bands = tuple(b if plain.count(b) == 1 else f"{n}-{b}" for n, b in names)
        about = self.reader.about(mine[0])
        self.shown = get_sensor(str(about.get("sensor", "generic"))).shown(about["bands"])

    def window(self, x: slice, y: slice) -> Window:
        """Return the pixels of a place.

        Raises:
            GridError: pixels of another size are asked for.
            IndexError: nothing of it is in the cube.
        """
        grid = self.reader.geobox.affine
        for step, size in ((x.step, abs(grid.a)), (y.step, abs(grid.e))):
            if step is not None and abs(step - size) > 1e-6 * size:
                raise GridError(
                    "the samples of a cube have its pixels",
                    why=f"asked for pixels of {step:g}, the cube has {size:g}",
                    fix="load the cube on the grid that is wanted: geomm.common_geobox(scenes, resolution=...)",
                )
        column, row = ~grid @ (x.start, y.stop)
        size = round((y.stop - y.start) / abs(grid.e)), round((x.stop - x.start) / abs(grid.a))
        window = Window(round(row), round(column), *size)
        height, width = self.reader.shape
        if not (-size[0] < window.y < height and -size[1] < window.x < width):
            raise IndexError(f"x {x}, y {y} is not in the cube's bounds")
        return window

    def sample(self, x: slice, y: slice, t: slice) -> dict[str, Any]:
        """Return what is at a place and time.

        Raises:
            IndexError: nothing is.
        """
        import pandas as pd
        import torch

        window = self.window(x, y)
        first, last = (pd.Timestamp(v).to_datetime64().astype("datetime64[ns]") for v in (t.start, t.stop))
        found = self.moments[(self.moments >= first) & (self.moments <= last)][:: t.step or 1]
        if not found.size:
            raise IndexError(f"the cube has no time step in {t.start} to {t.stop}")
        moments = [pd.Timestamp(m).to_pydatetime(warn=False).replace(tzinfo=dt.UTC) for m in found]
        parts = [self._at(Chip(k, window, window, moment)) for k, moment in enumerate(moments)]
        place = self.reader.geobox.affine
        place = place @ type(place).translation(window.x, window.y)
        images = [torch.stack(values) for values in zip(*(p[0] for p in parts), strict=True)]
        valid = [torch.stack(values) for values in zip(*(p[1] for p in parts), strict=True)]
        if self.times == "mosaic":  # per modality, a pixel with all its bands
            first_valid = [v.all(1).to(torch.uint8).argmax(0) for v in valid]
            images, valid = (
                [_taken(a, k) for a, k in zip(group, first_valid, strict=True)] for group in (images, valid)
            )
        sample = {
            "image": torch.cat(images, -3),
            "mask_valid": torch.cat(valid, -3),
            "transform": torch.tensor(place),
        }
        return sample if parts[0][2] is None else sample | {"mask": parts[0][2]}

    def _at(self, chip: Chip) -> tuple[list[Any], list[Any], Any]:
        """Return images and validity ``(C, H, W)`` of every modality at one time, and the mask."""
        import torch

        from geomm.dataset import to_sample
        from geomm.transforms import physical

        sample = to_sample(self.reader.read_chips([chip], [0]))
        images, valid = [], []
        for name in sample.images:
            value = physical(sample.images[name], sample.calibration[name])
            good = sample.valid[name].unsqueeze(2).expand(value.shape)
            images.append(torch.where(good, value, 0.0)[0, 0])
            valid.append(good[0, 0])
        return images, valid, None if sample.target is None else sample.target[0]

    def index(self) -> Any:
        """Return the index of a GeoDataset: a row for every time step."""
        import geopandas
        import pandas as pd
        from shapely.geometry import box

        geobox = self.reader.geobox
        stamps = [pd.Timestamp(m) for m in self.moments]
        when = pd.IntervalIndex.from_tuples([(s, s) for s in stamps], closed="both", name="datetime")
        places = [box(*geobox.boundingbox.bbox)] * len(stamps)
        files = [f"cube {s:%Y-%m-%dT%H:%M:%S}" for s in stamps]
        return geopandas.GeoDataFrame({"filepath": files}, index=when, geometry=places, crs=str(geobox.crs))


def _taken(values: Any, which: Any) -> Any:
    """Return of ``(T, C, H, W)`` the time ``(H, W)`` that is wanted for every pixel."""
    return values.gather(0, which[None, None].expand(1, *values.shape[1:]))[0]


def _dataset_class() -> Any:
    """Return the class of data sets of cubes; torchgeo is imported here."""
    from torchgeo.datasets import GeoDataset

    class CubeDataset(GeoDataset):  # type: ignore[misc]
        """Windows of a geomm cube."""

        def __init__(self, windows: _Windows, transforms: Callable[[Any], Any] | None) -> None:
            self.windows, self.transforms, self.paths = windows, transforms, "cube"
            self.index = windows.index()
            grid = windows.reader.geobox.affine
            self._res = (abs(grid.a), abs(grid.e))
            self.all_bands = windows.bands
            self.rgb_bands = tuple(windows.bands[k] for k in windows.shown)

        def __reduce__(self) -> tuple[Any, ...]:  # workers that are not forked make their own
            return _made, (self.windows.cube, self.windows.modalities, self.windows.target, self.windows.times,
                           self.transforms)  # fmt: skip

        def __getitem__(self, index: Any) -> dict[str, Any]:
            x, y, t = self._disambiguate_slice(index)
            sample = self.windows.sample(x, y, t) | {"bounds": self._slice_to_tensor(index)}
            return self.transforms(sample) if self.transforms else sample

        @property
        def crs(self) -> Any:
            return self.index.crs

        @crs.setter
        def crs(self, new: Any) -> None:
            _stays("CRS", self.index.crs.to_string(), str(new), same=bool(new == self.index.crs))

        @property
        def res(self) -> tuple[float, float]:
            return self._res

        @res.setter
        def res(self, new: Any) -> None:
            _stays("resolution", str(self._res), str(new), same=np.allclose(new, self._res, rtol=1e-6, atol=0))

        def plot(self, sample: dict[str, Any], *, show_titles: bool = True, suptitle: str | None = None) -> Any:
            return _plot(sample, self.windows.shown, titles=show_titles, top=suptitle)

    return CubeDataset


def _made(cube: Any, modalities: Any, target: Any, times: Any, transforms: Any) -> Any:
    return to_torchgeo(cube, modalities, target=target, times=times, transforms=transforms)


def _stays(what: str, ours: str, theirs: str, *, same: bool) -> None:
    """Refuse to be brought elsewhere, which torchgeo does to the second of two data sets.

    Raises:
        GridError: it would be.
    """
    if not same:
        raise GridError(
            f"a cube keeps its {what}",
            why=f"the other data set asks for {theirs}, the cube is in {ours}",
            fix="put the cube first, so that the other is brought to it: cube & other; "
            "of two cubes, load both on one grid: load_cube(scenes, grid)",
        )


def _plot(sample: dict[str, Any], shown: tuple[int, int, int], *, titles: bool, top: str | None) -> Any:
    """Draw an image, between the 2nd and 98th percentile of what is valid, and the mask beside it."""
    from matplotlib import pyplot as plt

    image, valid = (np.asarray(sample[k]) for k in ("image", "mask_valid"))
    first = (0,) * (image.ndim - 3)
    picture, good = (a[first][list(shown)].transpose(1, 2, 0) for a in (image, valid))
    low, high = np.percentile(picture[good], (2, 98)) if good.any() else (0.0, 1.0)
    parts = [np.where(good, np.clip((picture - low) / max(high - low, 1e-12), 0, 1), 1.0)]
    if "mask" in sample:
        mask = np.asarray(sample["mask"])
        parts.append(np.ma.masked_equal(mask, 255))
    figure, axes = plt.subplots(1, len(parts), figsize=(4 * len(parts), 4), squeeze=False)
    for axis, part, title in zip(axes[0], parts, ("Image", "Mask"), strict=False):
        axis.imshow(part, interpolation="none")
        axis.axis("off")
        axis.set_title(title if titles else "")
    if top is not None:
        figure.suptitle(top)
    return figure
