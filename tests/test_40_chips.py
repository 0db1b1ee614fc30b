"""Windows cover every pixel once; splits keep their distance. Both against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomm import Chip, ChipGrid, SpatialSplit, Window
from geomm.errors import ConfigError, GridError, SplitError


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 70), st.integers(0, 20))
def test_every_pixel_is_written_once_and_read_windows_are_equal(height, width, size, halo):
    grid = ChipGrid((height, width), size, halo)
    seen = np.zeros((height, width), int)
    chips = list(grid)
    for chip in chips:
        seen[chip.write.slices] += 1
        assert chip.read.shape == (size + 2 * halo, size + 2 * halo)
        assert chip.trim.shape == chip.write.shape
        assert (chip.trim.y, chip.trim.x) == (halo, halo)
    assert (seen == 1).all()
    assert len(chips) == len(grid)
    assert [grid[k] for k in range(len(grid))] == chips


def test_window_arithmetic_and_refusals():
    window = Window(-2, 3, 6, 4)
    assert window.clip((10, 5)) == Window(0, 3, 4, 2)
    assert window.expand(1) == Window(-3, 2, 8, 6)
    assert window.relative_to(Window(-3, 1, 9, 9)) == Window(1, 2, 6, 4)
    with pytest.raises(GridError, match="positive size"):
        Window(0, 0, 0, 5)
    with pytest.raises(GridError):
        window.clip((10, 3))
    with pytest.raises(ConfigError, match="size 0"):
        ChipGrid((4, 4), 0)
    with pytest.raises(IndexError):
        ChipGrid((4, 4), 2)[4]


@st.composite
def splits(draw):
    block = draw(st.integers(3, 9))
    shape = (draw(st.integers(2 * block, 5 * block)), draw(st.integers(2 * block, 5 * block)))
    buffer = draw(st.integers(0, block - 2))
    seed = draw(st.integers(0, 1000))
    return SpatialSplit.draw(shape, {"train": 0.5, "test": 0.5}, block=block, buffer=buffer, seed=seed)


@given(splits())
def test_no_pixel_lies_within_the_buffer_of_another_split(split):
    train, test = (np.argwhere(split.mask(n)) for n in ("train", "test"))
    assert not (split.mask("train") & split.mask("test")).any()
    if len(train) and len(test):
        distance = np.abs(train[:, None] - test[None]).max(-1).min()
        assert distance > split.buffer


@given(splits(), st.integers(-5, 30), st.integers(-5, 30), st.integers(1, 20))
def test_mask_of_a_window_is_the_window_of_the_mask(split, y, x, size):
    whole = np.pad(split.mask("train"), 60)
    window = Window(y, x, size, size)
    np.testing.assert_array_equal(split.mask("train", window), whole[y + 60 : y + 60 + size, x + 60 : x + 60 + size])


@given(splits(), st.integers(2, 12))
def test_tiles_cover_the_blocks_of_their_split_once(split, size):
    seen = np.zeros(split.shape, int)
    for name in split.names:
        for chip in split.tiles(name, size):
            seen[chip.write.slices] += 1
            assert chip.read.shape == (size, size)
    assert (seen == 1).all()


def test_random_chips_are_seeded_and_centred_in_their_split():
    split = SpatialSplit.draw((60, 60), {"train": 0.6, "test": 0.4}, block=12, buffer=4, seed=3)
    chips = split.random_chips("train", 8, 200, seed=1)
    assert chips == split.random_chips("train", 8, 200, seed=1)
    assert chips != split.random_chips("train", 8, 200, seed=2)
    index = split.names.index("train")
    assert all(split.assignment[(c.read.y + 4) // 12][(c.read.x + 4) // 12] == index for c in chips)
    assert isinstance(chips[0], Chip)


def test_balanced_drawing_gives_every_split_every_class():
    counts = np.zeros((4, 4, 2))
    counts[..., 0] = 100
    counts[0, :, 1] = 50
    split = SpatialSplit.draw((40, 40), {"train": 0.5, "test": 0.5}, block=10, buffer=0, counts=counts)
    row = split.assignment[0]
    assert sorted(row) == [0, 0, 1, 1]


def test_splits_refuse_to_be_empty_or_to_leak():
    with pytest.raises(SplitError, match="split test is empty"):
        SpatialSplit.draw((20, 20), {"train": 0.99, "test": 0.01}, block=10, buffer=0)
    with pytest.raises(SplitError, match=r"block 10 pixels, buffer 10"):
        SpatialSplit.draw((40, 40), {"train": 0.5, "test": 0.5}, block=10, buffer=10)
    with pytest.raises(SplitError, match="sum one"):
        SpatialSplit.draw((40, 40), {"train": 0.5, "test": 0.6}, block=10, buffer=0)
    with pytest.raises(SplitError, match="no split 'val'"):
        SpatialSplit.whole((5, 5), "train", 5).mask("val")
