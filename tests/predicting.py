"""Cubes and models that the tests of prediction share."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geomm.cube.load import CALIBRATION
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.package import InputContract, save_package
from geomm.train import Fitted
from geomm.transforms import Normaliser
from geomm.types import ClassSpec, Modality

CLASSES = tuple(ClassSpec(k, f"class {k}", f"#{40 * k:02x}3366") for k in range(4))
BANDS = {"optical": ("B2", "B3", "B4"), "thermal": ("B10", "B11")}
SENSORS = {"optical": "landsat-oli-l1", "thermal": "landsat-tirs-l1"}


def make_cube(pixels, valid=None, **more):
    """A cube with one modality ``m`` from an array ``(y, x)`` or ``(band, y, x)``; ``more`` are further modalities."""
    nodes = {"m": pixels} | more
    shape = next(iter(nodes.values())).shape[-2:]
    geobox = GeoBox(shape, Affine(10, 0, 5e5, 0, -10, 4e6), "EPSG:32632")
    found = {}
    for name, given in nodes.items():
        values = given[None] if given.ndim == 2 else given
        zero, nan = np.zeros((1, len(values))), np.full((1, len(values)), np.nan)
        table = dict(zip(CALIBRATION, (zero + 1, zero, nan, nan), strict=True))
        good = np.ones(shape, bool) if valid is None else valid
        found[f"/{name}"] = xr.Dataset(
            {"data": (("time", "band", "y", "x"), values[None]), "valid": (("time", "y", "x"), good[None])},
            coords={
                "time": np.array(["2020-06-01"], "datetime64[ns]"),
                "band": [f"b{k}" for k in range(len(values))],
            }
            | {k: (("time", "band"), v) for k, v in table.items()},
        ).chunk({"y": 16, "x": 16})
    return xr.DataTree.from_dict({"/": xr.Dataset(coords=xr_coords(geobox)), **found})


def save_model(folder, *, seed=0, size=32, halo=16, sharp=20.0, **spec):
    """Write an untrained model for the Landsat cube of the tests; ``sharp`` spreads its answers over the classes."""
    torch.manual_seed(seed)
    model = MultimodalModel(ModelSpec({n: len(b) for n, b in BANDS.items()}, len(CLASSES), **({"width": 8} | spec)))
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        for head in model.heads.values():
            last = [m for m in head.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))][-1]
            last.weight.mul_(sharp)
    normaliser = Normaliser(
        {"optical": (0.3,) * 3, "thermal": (290.0,) * 2}, {"optical": (0.2,) * 3, "thermal": (15.0,) * 2}
    )
    units = {"optical": "reflectance", "thermal": "kelvin_brightness_temperature"}
    streams = {n: Modality(SENSORS[n], BANDS[n]) for n in BANDS}
    contract = InputContract(streams, units, CLASSES, 30.0, size, halo)
    return save_package(Fitted(model.eval(), normaliser, ()), contract, folder, name="test")


def assemble(blocks, shape, layer="class"):
    """Put a stream together; every pixel comes once."""
    out, seen = None, np.zeros(shape, int)
    for window, prediction in blocks:
        array = prediction.arrays[layer]
        if out is None:
            out = np.zeros((len(array), *shape), array.dtype)
        out[(slice(None), *window.slices)] = array
        seen[window.slices] += 1
    assert (seen == 1).all()
    return out
