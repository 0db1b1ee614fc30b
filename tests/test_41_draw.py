"""Chips that do not tile a grid: where they fall, what they are balanced by, when."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomm.chips import (
    ChipGrid,
    SpatialSplit,
    balanced_chips,
    centred_chips,
    label_counts,
    random_chips,
    split_places,
    timed_chips,
)
from geomm.errors import ConfigError, SplitError


def test_random_chips_are_uniform_inside_the_grid():
    chips = random_chips((50, 70), 10, 4000, seed=3)
    assert chips == random_chips((50, 70), 10, 4000, seed=3)
    assert {c.read.shape for c in chips} == {(10, 10)}
    y, x = np.array([(c.read.y, c.read.x) for c in chips]).T
    assert (y.min(), y.max(), x.min(), x.max()) == (0, 40, 0, 60)
    expected = 4000 / 41
    assert ((np.bincount(y, minlength=41) - expected) ** 2 / expected).sum() < 80  # chi-square of 40 degrees, 99.98 %
    for chip in random_chips((50, 70), 10, 200, within=20):
        assert chip.read.y // 20 == (chip.read.y + 9) // 20
        assert chip.read.x // 20 == (chip.read.x + 9) // 20
    with pytest.raises(ConfigError, match="do not fit"):
        random_chips((50, 70), 30, 1, within=20)


def test_balanced_chips_show_every_class_alike():
    labels = np.zeros((200, 200), np.uint8)
    labels[:20, :20] = 1
    labels[150:160, 150:160] = 2
    labels[100:] = np.where(labels[100:] == 0, 255, labels[100:])
    counts = label_counts(labels, 10, 3)
    assert counts.sum((0, 1)).tolist() == [(labels == k).sum() for k in range(3)]
    chips = balanced_chips(counts, 10, labels.shape, 16, 3000, seed=1)
    centres = np.array([(c.read.y + 8, c.read.x + 8) for c in chips])
    seen = np.bincount(labels[centres[:, 0], centres[:, 1]], minlength=256)
    assert seen[255] == 0
    assert (np.abs(seen[:3] / 3000 - 1 / 3) < 0.04).all()
    split = SpatialSplit.draw((200, 200), {"train": 0.5, "test": 0.5}, block=40, buffer=4, seed=2)
    for chip in balanced_chips(counts, 10, labels.shape, 16, 300, split=(split, "test")):
        mask = split.mask("test")
        assert mask[chip.read.y + 8, chip.read.x + 8]
    with pytest.raises(SplitError, match="no label"):
        balanced_chips(counts * 0, 10, labels.shape, 16, 1)


@given(st.lists(st.tuples(st.floats(-20, 120), st.floats(-20, 120)), max_size=20), st.integers(0, 5))
def test_centred_chips_hold_their_point(points, jitter):
    chips = centred_chips(points, (90, 100), 20, jitter=jitter)
    inside = [(y, x) for y, x in points if 0 <= y < 90 and 0 <= x < 100]
    assert len(chips) == len(inside)
    for chip, (y, x) in zip(chips, inside, strict=True):
        assert chip.read.y <= y < chip.read.y + 20
        assert chip.read.x <= x < chip.read.x + 20


def test_timed_chips_are_every_chip_at_every_time():
    times = [dt.datetime(2023, 6, d, tzinfo=dt.UTC) for d in (1, 2, 3)]
    grid = list(ChipGrid((30, 30), 10))
    chips = timed_chips(grid, times)
    assert [c.index for c in chips] == list(range(27))
    assert [(c.read, c.time) for c in chips] == [(c.read, t) for t in times for c in grid]


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(0, 7), st.integers(0, 1000))
def test_every_block_is_tested_in_one_fold(folds, buffer, seed):
    splits = SpatialSplit.folds((60, 75), folds, block=10, buffer=buffer, seed=seed)
    assert len(splits) == folds
    tested = sum(np.array(s.assignment) == s.names.index("test") for s in splits)
    assert (tested == 1).all()
    for split in splits:
        assert not (split.mask("train") & split.mask("test")).any()
        sizes = [(np.array(s.assignment) == s.names.index("test")).sum() for s in splits]
        assert max(sizes) - min(sizes) <= 1


def test_places_are_split_whole():
    places = [f"p{k}" for k in range(20)]
    found = split_places(places, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=1)
    assert list(found) == places
    assert [list(found.values()).count(n) for n in ("train", "val", "test")] == [14, 2, 4]
    assert found == split_places(places, {"train": 0.7, "val": 0.1, "test": 0.2}, seed=1)
    with pytest.raises(SplitError, match="is empty"):
        split_places(places[:2], {"train": 0.9, "test": 0.1})
