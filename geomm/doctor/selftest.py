"""From files to a map, in a few seconds and without a network: whether everything works together.

The scene is made up of formulas, so that every stage can compare what it gets with what it must be.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from geomm.doctor.finding import Finding
from geomm.errors import GeommError

SHAPE = (96, 128)
"""Height and width of the scene in pixels."""
SCALE, OFFSET, K1, K2 = 3.342e-4, 0.1, 774.8853, 1321.0789
"""Calibration of band 10 of TIRS, as the MTL files of Landsat 8 state it."""


class WrongResultError(Exception):
    """A stage ended, but with something else than it must."""


@dataclass(slots=True)
class Bench:
    """What the stages hand on."""

    folder: Path
    """Where everything is written; removed afterwards."""
    made: dict[str, Any] = field(default_factory=dict)
    """Name to what earlier stages made."""


def run_stages() -> Iterator[Finding]:
    """Take a made-up scene from GeoTIFFs to a map, and yield a finding for each stage with the time it took.

    After a stage that fails, the others are left out. Nothing stays on the disk.
    """
    with tempfile.TemporaryDirectory(prefix="geomm-doctor-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bench = Bench(Path(folder))
        for name, stage, fix in STAGES:
            began = time.perf_counter()
            try:
                text = stage(bench)
            except Exception as error:
                told = error.fix if isinstance(error, GeommError) and error.fix else fix
                yield Finding(f"test: {name}", "fail", f"{type(error).__name__}: {error}"[:400], told)
                return
            yield Finding(f"test: {name}", "ok", f"{time.perf_counter() - began:.1f} s, {text}")


def _scene(bench: Bench) -> str:
    from geomm.testing import write_scene

    files = [
        *write_scene(bench.folder / "scenes", "landsat-oli-l1", bands=("B2", "B3", "B4"), shape=SHAPE),
        *write_scene(bench.folder / "scenes", "landsat-tirs-l1", bands=("B10", "B11"), shape=SHAPE),
    ]
    bench.made["files"] = files
    return f"{len(files)} GeoTIFFs written"


def _catalog(bench: Bench) -> str:
    from geomm.catalog import build_catalog, open_catalog

    sensors = ("landsat-oli-l1", "landsat-tirs-l1")
    when = "2024-06-01T10:00:00Z"
    made = build_catalog(bench.folder / "scenes", bench.folder / "catalog", sensors=sensors, datetime=when)
    scenes = open_catalog(made.href).search(datetime="2024-06-01")
    _same("sensors found", sorted(s.sensor for s in scenes), list(sensors))
    bench.made["scenes"] = scenes
    return f"{len(scenes)} scenes found again"


def _cube(bench: Bench) -> str:
    import rasterio

    from geomm.cube import calibrated, common_geobox, load_cube
    from geomm.types import Modality

    streams = {
        "optical": Modality("landsat-oli-l1", ("B2", "B3", "B4")),
        "thermal": Modality("landsat-tirs-l1", ("B10", "B11")),
    }
    grid = common_geobox(bench.made["scenes"])
    cube = load_cube(bench.made["scenes"], grid, streams, chunks=64)
    kelvin = calibrated(cube)["thermal"]["data"].to_numpy()[0, 0]
    with rasterio.open(next(f for f in bench.made["files"] if f.name.endswith("_B10.tif"))) as file:
        stored = file.read(1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = K2 / np.log(K1 / (SCALE * stored + OFFSET) + 1.0)
    known[stored == 0] = np.nan
    _same("shape", kelvin.shape, SHAPE)
    off = np.nanmax(np.abs(kelvin - known))
    if not (np.isnan(kelvin) == np.isnan(known)).all() or not off < 1e-2:
        raise WrongResultError(f"brightness temperatures are up to {off:.3g} K off, or missing elsewhere than nodata")
    bench.made |= {"grid": grid, "cube": cube}
    return f"{np.nanmean(kelvin):.2f} K on average, as computed by hand"


def _chips(bench: Bench) -> str:
    from geomm.chipping import ChipReader
    from geomm.chips import ChipGrid

    chips = list(ChipGrid(SHAPE, 32))
    reader = ChipReader(bench.made["cube"], chips, ["optical", "thermal"])
    total = sum(int(batch.images["optical"].sum(dtype=np.int64)) for batch in reader.stream(4))
    whole = int(bench.made["cube"]["optical"]["data"].to_numpy().sum(dtype=np.int64))
    _same("sum over all chips", total, whole)
    return f"{len(chips)} chips hold every pixel once"


def _model(bench: Bench) -> str:
    if find_spec("torch") is None:
        return "left out: torch is not installed"
    import torch

    from geomm.models.multimodal import ModelSpec, MultimodalModel
    from geomm.package import InputContract, load_package, save_package
    from geomm.prediction import predict
    from geomm.train import Fitted
    from geomm.transforms import Normaliser
    from geomm.types import ClassSpec

    bands = {"optical": 3, "thermal": 2}
    classes = (ClassSpec(0, "land", "#33a02c"), ClassSpec(1, "water", "#1f78b4"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MultimodalModel(ModelSpec(bands, len(classes), width=8)).eval()
    means, spreads = {"optical": (0.2,) * 3, "thermal": (285.0,) * 2}, {"optical": (0.1,) * 3, "thermal": (15.0,) * 2}
    streams = {name: _stream(bench, name) for name in bands}
    units = {"optical": "reflectance", "thermal": "kelvin_brightness_temperature"}
    contract = InputContract(streams, units, classes, resolution=30.0, size=32, halo=16)  # type: ignore[arg-type]
    save_package(Fitted(model, Normaliser(means, spreads), ()), contract, bench.folder / "model", name="self test")
    blocks = list(predict(bench.made["cube"], load_package(bench.folder / "model")))
    bench.made["blocks"] = blocks
    pixels = sum(window.height * window.width for window, _ in blocks)
    _same("pixels predicted", pixels, SHAPE[0] * SHAPE[1])
    return f"an untrained network answered for {pixels} pixels"


def _map(bench: Bench) -> str:
    import rasterio

    from geomm.export import Provenance, write_products

    blocks = bench.made.get("blocks") or _by_hand()
    answer = np.zeros(SHAPE, np.uint8)
    for window, prediction in blocks:
        answer[window.slices] = prediction.arrays["class"][0]
    source = Provenance(dt.datetime(2024, 6, 1, 10, tzinfo=dt.UTC))
    product = write_products(iter(blocks), bench.made["grid"], bench.folder / "maps", name="test", source=source)
    with rasterio.open(product.files["class"]) as file:
        layout, back, crs = file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT"), file.read(1), file.crs.to_epsg()
    _same("CRS of the map", crs, 32632)
    _same("layout of the map", layout, "COG")
    if not (back == answer).all():
        raise WrongResultError(f"{int((back != answer).sum())} pixels of the map are not what was written")
    return f"a COG of {len(product.files)} layers, read back the same"


def _by_hand() -> list[Any]:
    """Return a prediction that no network made."""
    from geomm.types import ClassSpec, LayerSpec, Prediction, Window

    classes = (ClassSpec(0, "land", "#33a02c"), ClassSpec(1, "water", "#1f78b4"))
    layer = LayerSpec("class", "class", "uint8", 255, ("class",), "class", classes)
    values = (np.indices(SHAPE).sum(0) // 16 % 2).astype(np.uint8)
    return [(Window(0, 0, *SHAPE), Prediction({"class": values[None]}, (layer,)))]


def _stream(bench: Bench, name: str) -> Any:
    from geomm.types import Modality

    node = bench.made["cube"][name]
    return Modality(node.attrs["sensor"], tuple(str(b) for b in node["band"].to_numpy()))


def _same(what: str, got: Any, wanted: Any) -> None:
    if got != wanted:
        raise WrongResultError(f"{what}: {got} instead of {wanted}")


STAGES: tuple[tuple[str, Callable[[Bench], str], str], ...] = (
    ("scene", _scene, "see gdal and temporary files above: GDAL must be able to write there"),
    ("catalog", _catalog, "see gdal and proj above, then uv pip install --reinstall pystac pyproj"),
    ("cube", _cube, "uv pip install --reinstall numba llvmlite numpy odc-geo xarray dask imagecodecs"),
    ("chips", _chips, "uv pip install --reinstall numba llvmlite numpy imagecodecs"),
    ("model", _model, "see gpu and extra train above, then uv pip install --reinstall torch"),
    ("map", _map, "see gdal, disk here and temporary files above, then uv pip install --reinstall rasterio"),
)
"""Name, what is done, and what to do where it fails."""
