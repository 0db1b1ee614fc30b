"""Prediction as a stream: nothing lost, nothing doubled, nothing invented."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from predicting import assemble, make_cube

from geomm.chips import Chip
from geomm.dataset import Sample
from geomm.errors import ConfigError
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.mosaic import Block, hann
from geomm.prediction import Predictor, PredictSettings, predict_blocks
from geomm.prediction.plan import PANEL, PredictPlan
from geomm.tasks.maps import ClassMaps
from geomm.testing import IdentityDecoder
from geomm.types import ClassSpec, Window


def identity(batch):
    return batch.images["m"][:, 0].float()


IDENTITY = Predictor(identity, IdentityDecoder(), ("m",))


@settings(max_examples=200)
@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(4, 24),
    st.integers(0, 9),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from(["trim", "hann"]),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 4]),
    st.integers(0, 2**31),
)
def test_identity_model_returns_the_input_bit_for_bit(
    height, width, size, halo, blocks, batch, blend, workers, stride, seed
):
    """Whatever the scene, the chips, the overlap, and how many workers share the blocks in whatever order."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(1, 65536, (height, width)).astype(np.uint16)
    valid = generator.random((height, width)) > 0.1
    chosen = PredictSettings(size, halo, size * blocks, batch, blend)
    cube, predictor = make_cube(pixels, valid), replace(IDENTITY, stride=stride)
    windows = [b.window for b in PredictPlan((height, width), chosen, stride).blocks]
    generator.shuffle(windows)
    shares = [set(windows[k::workers]) for k in range(workers)]
    stream = [pair for s in shares for pair in predict_blocks(cube, predictor, chosen, only=s)]
    np.testing.assert_array_equal(assemble(stream, (height, width), "value")[0], np.where(valid, pixels, 0))


@settings(max_examples=15)
@given(st.integers(5, 60), st.integers(5, 60), st.integers(4, 16), st.integers(1, 8), st.integers(1, 3))
def test_blended_constant_is_constant_and_blocks_never_show(height, width, size, halo, blocks):
    pixels = np.random.default_rng(0).integers(1, 1000, (height, width)).astype(np.uint16)

    def position(batch):
        return torch.ones_like(batch.images["m"][:, 0]).float() * 0.3 + batch.images["m"][:, 0] * 1e-3

    results = []
    for per_side in (1, blocks):
        chosen = PredictSettings(size, halo, size * per_side, 2, "hann")
        predictor = Predictor(position, IdentityDecoder("float32"), ("m",))
        results.append(assemble(predict_blocks(make_cube(pixels), predictor, chosen), (height, width), "value")[0])
    np.testing.assert_allclose(results[0], 0.3 + pixels * 1e-3, rtol=1e-6)
    np.testing.assert_array_equal(*results)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 40), st.integers(0, 30), st.sampled_from([1, 4, 8]))
def test_chips_read_what_they_write_on_whole_cells_inside_the_grid(height, width, cells, halo, stride):
    size = cells * stride
    plan = PredictPlan((height, width), PredictSettings(size, halo, size), stride, any_size=True)
    covered = np.zeros((height, width), int)
    for chip in plan.lattice:
        assert chip.read.shape == plan.sides
        assert (chip.read.y % stride, chip.read.x % stride, chip.read.height % stride) == (0, 0, 0)
        for start, end, least, most, side in (
            (chip.read.y, chip.read.y + chip.read.height, chip.write.y, chip.write.y + chip.write.height, height),
            (chip.read.x, chip.read.x + chip.read.width, chip.write.x, chip.write.x + chip.write.width, width),
        ):
            assert 0 <= start <= max(least - halo, 0)
            assert min(most + halo, side) <= end < side + stride
            assert most - least <= size + plan.halo or (least, most) == (0, side)
        covered[chip.write.slices] += 1
    assert (covered == 1).all()


def test_wide_grids_are_mapped_in_panels():
    plan = PredictPlan((1024, 3 * PANEL), PredictSettings(256, 0, 512))
    columns = [b.window.x // PANEL for b in plan.blocks]
    assert columns == sorted(columns)
    assert {b.panel for b in plan.blocks} == {0, 1, 2}


def conv_model():
    torch.manual_seed(0)
    model = MultimodalModel(ModelSpec({"m": 2}, 3, width=8)).eval()

    def scores(batch):
        scaled = replace(batch, images={n: x.float() / 50 - 1 for n, x in batch.images.items()})
        return torch.softmax(5 * model(scaled), 1)

    return scores, ClassMaps([ClassSpec(k, f"c{k}", "#000000") for k in range(3)], ["probability"])


def test_trimmed_chips_equal_the_whole_image_to_its_border():
    scores, maps = conv_model()
    pixels = np.random.default_rng(0).integers(0, 100, (2, 128, 160)).astype(np.int16)
    predictor = Predictor(scores, maps, ("m",), stride=4, any_size=True)
    stream = predict_blocks(make_cube(pixels), predictor, PredictSettings(32, 32, 64, 3))
    out = assemble(stream, (128, 160), "probability")
    seen, here = torch.ones(1, 1, 128, 160, dtype=torch.bool), torch.ones(1, dtype=torch.bool)
    with torch.inference_mode():
        whole = scores(Sample({"m": torch.from_numpy(pixels)[None, None]}, {"m": seen}, {}, {"m": here}))[0].numpy()
    np.testing.assert_allclose(out, whole, atol=3e-6)


@pytest.mark.parametrize("blend", ["trim", "hann"])
def test_no_seam_shows_at_the_borders_of_blocks(blend):
    """With a margin that the model needs, pixels differ across a border as they do inside of a block."""
    scores, maps = conv_model()
    y, x = np.mgrid[:256, :256]
    smooth = 50 + 30 * np.sin(y / 11) + 20 * np.cos(x / 7)
    pixels = np.stack([smooth, smooth[::-1]]).astype(np.int16)
    pixels += np.random.default_rng(1).integers(0, 6, pixels.shape).astype(np.int16)
    predictor = Predictor(scores, maps, ("m",), stride=4, any_size=True)
    stream = predict_blocks(make_cube(pixels), predictor, PredictSettings(32, 16, 32, 4, blend))
    out = assemble(stream, (256, 256), "probability")
    steps = np.abs(np.diff(out, axis=2)).mean((0, 1))
    across, inside = steps[31::32], np.delete(steps, np.s_[31::32])
    assert abs(across.mean() - inside.mean()) <= 2 * inside.std() / np.sqrt(len(across))
    assert across.max() <= inside.max() * 1.05


def test_blocks_without_a_valid_pixel_are_not_shown_to_the_model():
    valid = np.zeros((64, 64), bool)
    valid[40:, 40:] = True
    asked = []

    def counting(batch):
        asked.append(len(batch.images["m"]))
        return identity(batch)

    pixels = np.full((64, 64), 7, np.uint16)
    predictor = Predictor(counting, IdentityDecoder(), ("m",))
    out = assemble(
        predict_blocks(make_cube(pixels, valid), predictor, PredictSettings(16, 4, 32, 4)), (64, 64), "value"
    )
    np.testing.assert_array_equal(out[0], np.where(valid, 7, 0))
    assert asked == [4]  # the four chips of the last of four blocks
    empty = make_cube(pixels, np.zeros((64, 64), bool))
    assert not assemble(predict_blocks(empty, predictor, PredictSettings(16, 4, 32, 4)), (64, 64), "value").any()
    assert asked == [4]


@pytest.mark.parametrize("failure", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError("no memory")])
def test_batches_are_halved_where_memory_does_not_suffice(failure):
    sizes = []

    def hungry(batch):
        sizes.append(len(batch.images["m"]))
        if sizes[-1] > 2:
            raise failure
        return identity(batch)

    pixels = np.random.default_rng(0).integers(1, 999, (64, 128)).astype(np.uint16)
    predictor = Predictor(hungry, IdentityDecoder(), ("m",))
    out = assemble(predict_blocks(make_cube(pixels), predictor, PredictSettings(16, 4, 64, 16)), (64, 128), "value")
    np.testing.assert_array_equal(out[0], pixels)
    assert sizes == [16, 8, 4] + [2] * 16  # found once, remembered for the second block

    def starving(batch):
        raise failure

    with pytest.raises(ConfigError, match="does not suffice for one chip.*smaller chips"):
        list(predict_blocks(make_cube(pixels), replace(predictor, scores=starving), PredictSettings(16, 4, 64, 16)))


def test_errors_of_any_thread_reach_the_caller_and_threads_end():
    cube = make_cube(np.ones((64, 64), np.uint16))
    before = set(threading.enumerate())

    def broken(batch):
        raise ValueError("a broken step")

    for predictor in (replace(IDENTITY, scores=broken), replace(IDENTITY, prepare=broken)):
        with pytest.raises(ValueError, match="a broken step"):
            list(predict_blocks(cube, predictor, PredictSettings(16, 0, 16)))
    stream = predict_blocks(cube, IDENTITY, PredictSettings(16, 0, 16))
    next(stream)
    stream.close()
    assert {t.name for t in set(threading.enumerate()) - before if t.name.startswith("geomm")} == set()


def test_the_caller_is_not_in_inference_mode_between_blocks():
    stream = predict_blocks(make_cube(np.ones((40, 40), np.uint16)), IDENTITY, PredictSettings(16, 0, 16))
    for _ in stream:
        assert not torch.is_inference_mode_enabled()


def test_progress_tells_every_block_and_counts_those_that_are_there():
    told = []
    cube = make_cube(np.ones((40, 40), np.uint16))
    first = Window(0, 0, 16, 16)
    stream = predict_blocks(
        cube, IDENTITY, PredictSettings(16, 0, 16), skip={first}, on_block=lambda *a: told.append(a)
    )
    assert first not in [w for w, _ in stream]
    assert told == [(k, 9) for k in range(2, 10)]


def test_settings_and_blends_are_checked():
    with pytest.raises(ConfigError, match="block 100, size 64"):
        PredictSettings(64, 0, 100)
    for wrong in ({"blend": "magic"}, {"precision": "fp8"}, {"symmetries": 3}):
        with pytest.raises(ConfigError, match=r"unknown .*known: "):
            PredictSettings(**wrong)
    with pytest.raises(ConfigError, match="unknown blend 'magic'.*trim, hann"):
        Block(Window(0, 0, 4, 4), "magic")
    assert (hann(9, 7) > 0).all()


def test_a_block_must_be_covered():
    block = Block(Window(0, 0, 8, 8))
    block.feed(Chip(0, Window(0, 0, 4, 4), Window(0, 0, 4, 4)), np.ones((1, 4, 4), np.float32))
    with pytest.raises(AssertionError, match="do not cover"):
        block.result()
