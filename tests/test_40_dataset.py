"""Samples, batches, normalisation, augmentation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import geomm
from geomm import radiometry
from geomm.chips import Chip, ChipGrid, SpatialSplit
from geomm.dataset import ChipDataset, Target, collate
from geomm.errors import ConfigError, ContractError, SplitError
from geomm.testing import CountingReader
from geomm.transforms import Normaliser, augment, drop_modalities, physical
from geomm.types import Window

TARGET = Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)


def _random(seed=0):
    return torch.Generator().manual_seed(seed)


def test_sample_equals_the_cube(cube):
    chip = ChipGrid((96, 128), 32)[5]
    sample = ChipDataset(cube, [chip], ["optical", "thermal"], target=TARGET)[0]
    rows, columns = chip.read.slices
    for name in ("optical", "thermal"):
        node = cube[name].to_dataset().isel(y=rows, x=columns)
        np.testing.assert_array_equal(sample.images[name].numpy(), node.data.to_numpy())
        np.testing.assert_array_equal(sample.valid[name].numpy(), node.valid.to_numpy())
    stored = cube["label"]["data"].isel(time=0, band=0, y=rows, x=columns).to_numpy()
    np.testing.assert_array_equal(sample.target.numpy(), radiometry.cloud_classes_from_bqa(stored))
    assert sample.bounds.tolist() == [500000 + 32 * 30, 4000000 - 64 * 30, 500000 + 64 * 30, 4000000 - 32 * 30]


def test_outside_the_grid_is_invalid_and_unlabelled(cube):
    window = Window(-8, -8, 32, 32)
    sample = ChipDataset(cube, [Chip(0, window, window.clip((96, 128)))], ["thermal"], target=TARGET)[0]
    assert not sample.valid["thermal"][0, :8].any()
    assert (sample.target[:8] == 255).all()
    assert (sample.target[:, :8] == 255).all()
    assert sample.valid["thermal"][0, 12:, 12:].all()


def test_a_split_hides_other_pixels_from_images_and_target(cube):
    split = SpatialSplit.draw((96, 128), {"train": 0.5, "test": 0.5}, block=32, buffer=8)
    window = Window(0, 0, 96, 128)
    sample = ChipDataset(cube, [Chip(0, window, window)], ["optical"], target=TARGET, split=(split, "train"))[0]
    mask = split.mask("train")
    assert not sample.valid["optical"][0].numpy()[~mask].any()
    assert (sample.target.numpy()[~mask] == 255).all()
    assert sample.valid["optical"][0].numpy()[mask].sum() > 0.95 * mask.sum()


def test_calibration_on_the_device_equals_the_cube(cube):
    chip = ChipGrid((96, 128), 32)[5]
    sample = ChipDataset(cube, [chip], ["optical", "thermal"])[0]
    lazy = geomm.calibrated(cube)
    for name in ("optical", "thermal"):
        truth = lazy[name]["data"].isel(y=chip.read.slices[0], x=chip.read.slices[1]).to_numpy()
        np.testing.assert_allclose(
            physical(sample.images[name], sample.calibration[name]).numpy(), truth, rtol=2e-6, atol=1e-7
        )


def test_collate_fills_what_a_sample_lacks(cube):
    chip = ChipGrid((96, 128), 32)[5]
    both = ChipDataset(cube, [chip], ["optical", "thermal"])[0]
    one = ChipDataset(cube, [chip], ["thermal"])[0]
    batch = collate([one, both])
    assert batch.images["optical"].shape == (2, 1, 3, 32, 32)
    assert batch.present["optical"].tolist() == [False, True]
    assert not batch.valid["optical"][0].any()
    other = ChipDataset(cube, [ChipGrid((96, 128), 16)[0]], ["thermal"])[0]
    with pytest.raises(ConfigError, match="differ in shape"):
        collate([one, other])


def test_dataset_needs_a_modality_of_the_cube(cube):
    with pytest.raises(ConfigError, match=r"wanted sar; it has optical, thermal, label"):
        ChipDataset(cube, [], ["sar"])


def test_normaliser_equals_numpy_on_valid_pixels(cube):
    dataset = ChipDataset(cube, list(ChipGrid((96, 128), 32)), ["optical", "thermal"])
    fitted = Normaliser.fit([collate([dataset[k] for k in range(len(dataset))])])
    for name in ("optical", "thermal"):
        values = geomm.calibrated(cube)[name]["data"].to_numpy()[0].astype(float)
        np.testing.assert_allclose(fitted.mean[name], np.nanmean(values, (1, 2)), rtol=1e-5)
        np.testing.assert_allclose(fitted.std[name], np.nanstd(values, (1, 2)), rtol=1e-3)
    ready = fitted(collate([dataset[0]]))
    assert (ready.images["optical"][0, 0, :, :4, :4] == 0).all()


def test_normalising_is_calibrating_and_scaling(cube):
    """Integers take a shorter way than thermal bands and floats; all give what NumPy gives."""
    batch = collate([ChipDataset(cube, [ChipGrid((96, 128), 32)[k]], ["optical", "thermal"])[0] for k in (0, 5)])
    batch.images["float"] = batch.images["optical"].float()
    batch.images["float"][~batch.valid["optical"].unsqueeze(2).expand_as(batch.images["float"])] = float("nan")
    for part in (batch.valid, batch.calibration, batch.present):
        part["float"] = part["optical"]
    scales = {n: (tuple(np.linspace(0.1, 0.4, x.shape[2])), (0.3,) * x.shape[2]) for n, x in batch.images.items()}
    ready = Normaliser({n: m for n, (m, _) in scales.items()}, {n: s for n, (_, s) in scales.items()})(batch)
    for name, (mean, std) in scales.items():
        value = physical(batch.images[name], batch.calibration[name]).double().numpy()
        truth = (value - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
        truth = np.where(batch.valid[name].numpy()[:, :, None], truth, 0)
        np.testing.assert_allclose(ready.images[name].numpy(), truth, rtol=1e-5, atol=1e-5)


def test_normaliser_refuses_other_bands_and_empty_data(cube):
    dataset = ChipDataset(cube, [ChipGrid((96, 128), 32)[5]], ["optical"])
    with pytest.raises(ContractError, match="does not fit the imagery"):
        Normaliser({"optical": (0.0,)}, {"optical": (1.0,)})(collate([dataset[0]]))
    outside = Window(500, 500, 8, 8)
    empty = ChipDataset(cube, [Chip(0, Window(0, 0, 4, 4), outside)], ["optical"])
    with pytest.raises(SplitError, match="no valid pixel"):
        Normaliser.fit([collate([empty[0]])])


def test_augmentation_moves_everything_alike(cube):
    dataset = ChipDataset(cube, [ChipGrid((96, 128), 32)[5]], ["optical", "thermal"], target=TARGET)
    batch = collate([dataset[0]])
    coded = batch.target.float()
    marked = type(batch)(
        {n: coded[:, None, None].expand_as(x).clone() for n, x in batch.images.items()},
        dict.fromkeys(batch.images, coded[:, None] != 1),
        batch.calibration,
        batch.present,
        batch.target,
    )
    seen = set()
    for seed in range(30):
        moved = augment(marked, _random(seed))
        for name in marked.images:
            assert (moved.images[name][:, 0, 0] == moved.target).all()
            assert (moved.valid[name][:, 0] == (moved.target != 1)).all()
        seen.add(moved.target.numpy().tobytes())
    assert len(seen) == 8
    flat = ChipDataset(cube, [Chip(0, Window(8, 8, 16, 24), Window(8, 8, 16, 24))], ["optical"])[0]
    assert {x.shape[-2:] for x in augment(collate([flat] * 20), _random()).images["optical"]} == {(16, 24)}
    many = augment(collate([dataset[0]] * 40), _random())
    assert len({t.numpy().tobytes() for t in many.target}) > 4


def test_modality_dropout_never_takes_everything(cube):
    dataset = ChipDataset(cube, [ChipGrid((96, 128), 32)[5]], ["optical", "thermal"])
    batch = collate([dataset[0]] * 64)
    before = {n: x.clone() for n, x in batch.images.items()}
    dropped = drop_modalities(batch, 0.7, _random())
    kept = torch.stack(list(dropped.present.values())).sum(0)
    assert kept.min() == 1
    assert kept.max() == 2
    for name, flag in dropped.present.items():
        assert not dropped.valid[name][~flag].any()
        assert (dropped.images[name][~flag] == 0).all()
        assert (batch.images[name] == before[name]).all()


def test_only_the_window_is_read(landsat):
    reader = CountingReader()
    lazy = geomm.load_cube(landsat.search(), geomm.common_geobox(landsat.search()), reader=reader)
    name = next(iter(lazy.children))
    dataset = ChipDataset(lazy, [ChipGrid((96, 128), 32)[0]], [name])
    assert not reader.blocks
    assert dataset[0].images[name].shape[-2:] == (32, 32)
    assert {href.rsplit("_", 1)[0] for href, *_ in reader.blocks} == {
        s.rsplit("_", 1)[0].split()[1] for s in lazy[name].attrs["sources"]
    }


@pytest.mark.parametrize("shape", [(), (0,), (7,), (4, 6), (2, 4, 6)])
def test_classes_of_any_shape_are_looked_up(shape):
    labels = np.random.default_rng(0).integers(0, 9, shape, np.uint8)
    wanted = np.full(shape, 255, np.uint8)
    for k, value in enumerate((3, 1, 7)):
        wanted[np.asarray(labels) == value] = k
    np.testing.assert_array_equal(Target("label", (3, 1, 7)).index(np.asarray(labels)), wanted)
    if len(shape) == 2:
        part = np.s_[1:4:2, ::3]
        np.testing.assert_array_equal(Target("label", (3, 1, 7)).index(labels[part]), wanted[part])
