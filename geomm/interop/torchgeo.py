"""To torchgeo and back: a cube as a GeoDataset for its samplers, a RasterDataset as scenes for a cube."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.catalog import BandSource, Scene
from geomm.chipping import ChipReader, Target
from geomm.chips import Chip
from geomm.cube import geobox_of
from geomm.errors import CatalogError
from geomm.sensors import get_sensor
from geomm.types import Window

if TYPE_CHECKING:
    import xarray as xr


def to_torchgeo(cube: xr.DataTree, modalities: Sequence[str], *, target: Target | None = None) -> Any:
    """Return a cube as a torchgeo ``GeoDataset``: its samplers, transforms and ``&`` work on it.

    Samples hold ``image`` (float32 ``(C, H, W)``, the bands of all modalities and times one after the other, in
    physical units, 0 where invalid), ``valid`` (bool ``(C, H, W)``), with a target ``mask`` (int64 ``(H, W)``, 255
    where there is none), ``bounds`` and ``transform`` as torchgeo has them.

    Args:
        cube: lazy or loaded.
        modalities: in the order of their bands.
        target: how to make the mask.
    """
    import geopandas
    import pandas as pd
    import torch
    from shapely.geometry import box
    from torchgeo.datasets import GeoDataset

    from geomm.dataset import to_sample
    from geomm.transforms import physical

    geobox = geobox_of(cube)
    grid = geobox.affine
    reader = ChipReader(cube, [], modalities, target=target)
    times = np.concatenate([cube.children[n]["time"].to_numpy() for n in modalities])
    when = pd.IntervalIndex.from_tuples(
        [(pd.Timestamp(times.min()), pd.Timestamp(times.max()))], closed="both", name="datetime"
    )

    class CubeDataset(GeoDataset):  # type: ignore[misc]
        """Windows of a geomm cube."""

        def __init__(self) -> None:
            place = [box(*geobox.boundingbox.bbox)]
            self.index = geopandas.GeoDataFrame({"filepath": ["cube"]}, index=when, geometry=place, crs=str(geobox.crs))
            self.paths, self.transforms = "cube", None
            self.res = (abs(grid.a), abs(grid.e))

        def __getitem__(self, index: Any) -> dict[str, Any]:
            x, y, _ = self._disambiguate_slice(index)
            column, row = ~grid * (x.start, y.stop)
            size = round((y.stop - y.start) / abs(grid.e)), round((x.stop - x.start) / abs(grid.a))
            window = Window(round(row), round(column), *size)
            height, width = geobox.shape
            if not (-size[0] < window.y < height and -size[1] < window.x < width):
                raise IndexError(f"query {index} is not in the cube's bounds {tuple(self.bounds)}")
            sample = to_sample(reader.read_chips([Chip(0, window, window)], [0]))
            images, valid = [], []
            for name in sample.images:
                value = physical(sample.images[name], sample.calibration[name])
                good = sample.valid[name].unsqueeze(2).expand(value.shape)
                images.append(torch.where(good, value, 0.0).flatten(1, 2)[0])
                valid.append(good.flatten(1, 2)[0])
            place = grid * type(grid).translation(window.x, window.y)
            found = {
                "image": torch.cat(images),
                "valid": torch.cat(valid),
                "bounds": self._slice_to_tensor(index),
                "transform": torch.tensor(place),
            }
            if sample.target is not None:
                found["mask"] = sample.target[0]
            return self.transforms(found) if self.transforms else found

    return CubeDataset()


def from_torchgeo(dataset: Any, sensor: str) -> list[Scene]:
    """Return the files of a torchgeo ``RasterDataset`` as scenes, for :func:`geomm.load_cube`.

    Args:
        dataset: one file for every image, or one for every band (``separate_files``).
        sensor: what it is, for geomm.

    Raises:
        CatalogError: its files do not say which bands they hold.
    """
    import pandas as pd

    spec = get_sensor(sensor)
    scenes = []
    pattern = re.compile(dataset.filename_regex, re.VERBOSE)
    for number, (interval, row) in enumerate(dataset.index.to_crs("EPSG:4326").iterrows()):
        bands = tuple(getattr(dataset, "all_bands", ()) or dataset.bands or ())
        files = dict.fromkeys(bands, row.filepath) or {"1": row.filepath}
        found = pattern.match(str(row.filepath).rsplit("/", 1)[-1])
        if dataset.separate_files and found and "band" in found.groupdict():
            head, _, name = str(row.filepath).rpartition("/")
            start, end = found.span("band")
            files = {b: f"{head}/{name[:start]}{b}{name[end:]}" for b in bands}
        known = {b.name for b in spec.bands}
        if spec.bands and not set(files) <= known:
            raise CatalogError(
                "the data set's bands are not those of the sensor",
                where=f"{type(dataset).__name__}, sensor {sensor}",
                why=f"it has {', '.join(files)}; the sensor has {', '.join(sorted(known))}",
                fix="name the bands: all_bands = (...) in its class",
            )
        name = f"{type(dataset).__name__}-{number}"
        sources = {
            band: BandSource(
                str(href),
                1 if dataset.separate_files or not bands else bands.index(band) + 1,
                nodata=() if spec.band(band).nodata is None else (float(spec.band(band).nodata or 0),),
                calibration=spec.band(band).calibration,
                item=name,
                asset=band,
            )
            for band, href in files.items()
        }
        west, south, east, north = row.geometry.bounds
        # torchgeo gives files without a date the whole of time.
        time = max(interval.left, pd.Timestamp(1970, 1, 1)).floor("us").to_pydatetime().replace(tzinfo=dt.UTC)
        scenes.append(Scene(name, spec.name, time, (west, south, east, north), row.geometry.__geo_interface__, sources))
    return scenes
