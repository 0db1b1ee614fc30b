"""Prediction as a stream: nothing lost, nothing doubled, nothing invented."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geomm.chips import Chip
from geomm.cube.load import CALIBRATION
from geomm.dataset import Sample
from geomm.errors import ConfigError
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.mosaic import Block, hann
from geomm.prediction import Predictor, PredictSettings, predict_blocks
from geomm.tasks.maps import ClassMaps
from geomm.testing import IdentityDecoder
from geomm.types import ClassSpec, Window


def make_cube(pixels, valid=None):
    """A cube with one modality ``m`` from an array ``(y, x)`` or ``(band, y, x)``."""
    pixels = np.atleast_3d(pixels.T).T if pixels.ndim == 2 else pixels
    shape = pixels.shape[-2:]
    geobox = GeoBox(shape, Affine(10, 0, 5e5, 0, -10, 4e6), "EPSG:32632")
    zero, nan = np.zeros((1, len(pixels))), np.full((1, len(pixels)), np.nan)
    values = dict(zip(CALIBRATION, (zero + 1, zero, nan, nan), strict=True))
    node = xr.Dataset(
        {
            "data": (("time", "band", "y", "x"), pixels[None]),
            "valid": (("time", "y", "x"), np.ones((1, *shape), bool) if valid is None else valid[None]),
        },
        coords={"band": [f"b{k}" for k in range(len(pixels))]} | {k: (("time", "band"), v) for k, v in values.items()},
    ).chunk({"y": 16, "x": 16})
    return xr.DataTree.from_dict({"/": xr.Dataset(coords=xr_coords(geobox)), "/m": node})


def identity(batch):
    return batch.images["m"][:, 0].float()


def assemble(blocks, shape):
    out, seen = np.full(shape, 7, np.uint16), np.zeros(shape, int)
    for window, prediction in blocks:
        out[window.slices] = prediction.arrays["value"][0]
        seen[window.slices] += 1
    assert (seen == 1).all()
    return out


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(4, 24),
    st.integers(0, 9),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 2**31),
)
def test_identity_model_returns_the_input_bit_for_bit(height, width, size, halo, blocks, batch, seed):
    generator = np.random.default_rng(seed)
    pixels = generator.integers(1, 65536, (height, width)).astype(np.uint16)
    valid = generator.random((height, width)) > 0.1
    settings_ = PredictSettings(size, halo, size * blocks, batch)
    stream = predict_blocks(make_cube(pixels, valid), Predictor(identity, IdentityDecoder(), ("m",)), settings_)
    np.testing.assert_array_equal(assemble(stream, (height, width)), np.where(valid, pixels, 0))


@settings(max_examples=15)
@given(st.integers(5, 60), st.integers(5, 60), st.integers(4, 16), st.integers(1, 8), st.integers(1, 3))
def test_blended_constant_is_constant_and_blocks_never_show(height, width, size, halo, blocks):
    pixels = np.random.default_rng(0).integers(1, 1000, (height, width)).astype(np.uint16)

    def position(batch):
        return torch.ones_like(batch.images["m"][:, 0]).float() * 0.3 + batch.images["m"][:, 0] * 1e-3

    results = []
    for per_side in (1, blocks):
        decoder = IdentityDecoder("float32")
        chosen = PredictSettings(size, halo, size * per_side, 2, "hann")
        stream = predict_blocks(make_cube(pixels), Predictor(position, decoder, ("m",)), chosen)
        out = np.zeros((height, width), np.float32)
        for window, prediction in stream:
            out[window.slices] = prediction.arrays["value"][0]
        results.append(out)
    np.testing.assert_allclose(results[0], 0.3 + pixels * 1e-3, rtol=1e-6)
    np.testing.assert_array_equal(*results)


def test_trimmed_chips_equal_the_whole_image_within_the_receptive_field():
    torch.manual_seed(0)
    model = MultimodalModel(ModelSpec({"m": 2}, 3, width=8)).eval()
    pixels = np.random.default_rng(0).integers(0, 100, (2, 128, 160)).astype(np.int16)
    maps = ClassMaps([ClassSpec(k, f"c{k}", "#000000") for k in range(3)], ["probability"])
    predictor = Predictor(lambda b: torch.softmax(model(_float(b)), 1), maps, ("m",), stride=4)
    out = np.zeros((3, 128, 160), np.float32)
    for window, prediction in predict_blocks(make_cube(pixels), predictor, PredictSettings(32, 32, 64, 3)):
        out[(slice(None), *window.slices)] = prediction.arrays["probability"]
    with torch.inference_mode():
        image = torch.from_numpy(pixels).float()[None, None] / 50 - 1
        seen, here = torch.ones(1, 1, 128, 160, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
        whole = torch.softmax(model(Sample({"m": image}, {"m": seen}, {}, {"m": here})), 1)[0].numpy()
    np.testing.assert_allclose(out, whole, atol=2e-6)


def _float(batch):
    from dataclasses import replace

    return replace(batch, images={n: x.float() / 50 - 1 for n, x in batch.images.items()})


def test_progress_tells_every_block():
    told = []
    cube = make_cube(np.ones((40, 40), np.uint16))
    list(
        predict_blocks(
            cube,
            Predictor(identity, IdentityDecoder(), ("m",)),
            PredictSettings(16, 0, 16),
            on_block=lambda *a: told.append(a),
        )
    )
    assert told == [(k, 9) for k in range(1, 10)]


def test_settings_and_blends_are_checked():
    with pytest.raises(ConfigError, match="block 100, size 64"):
        PredictSettings(64, 0, 100)
    with pytest.raises(ConfigError, match="unknown blend 'magic'.*trim, hann"):
        Block(Window(0, 0, 4, 4), "magic")
    assert (hann(9, 7) > 0).all()


def test_a_block_must_be_covered():
    block = Block(Window(0, 0, 8, 8))
    block.feed(Chip(0, Window(0, 0, 4, 4), Window(0, 0, 4, 4)), np.ones((1, 4, 4), np.float32))
    with pytest.raises(AssertionError, match="do not cover"):
        block.result()
