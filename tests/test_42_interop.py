"""A cube through torchgeo's samplers and back: the same pixels."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
import xarray as xr

import geomm
from geomm import radiometry
from geomm.chipping import Target
from geomm.errors import CatalogError, ConfigError, GridError, SourceWarning
from geomm.interop import from_torchgeo, to_torchgeo
from geomm.testing import write_scene

TARGET = Target("label", (0, 1, 2), radiometry.cloud_classes_from_bqa)


def test_torchgeo_samplers_walk_over_a_cube(cube):
    from torch.utils.data import DataLoader
    from torchgeo.datasets import GeoDataset, stack_samples
    from torchgeo.samplers import GriddedPatchSampler, RandomPatchSampler

    dataset = to_torchgeo(cube, ["optical", "thermal"], target=TARGET)
    assert isinstance(dataset, GeoDataset)
    assert dataset.crs.to_epsg() == 32632
    whole = geomm.calibrated(cube.compute())
    for sampler in (RandomPatchSampler(dataset, size=16, length=5, generator=0), GriddedPatchSampler(dataset, size=32)):
        for batch in DataLoader(dataset, batch_size=1, sampler=sampler, collate_fn=stack_samples):
            image, good = batch["image"][0].numpy(), batch["mask_valid"][0].numpy()
            assert image.shape[0] == good.shape[0] == whole["optical"].sizes["band"] + whole["thermal"].sizes["band"]
            a, _, left, _, e, top = batch["transform"][0].tolist()[:6]
            y, x = round((top + e / 2 - float(cube["y"][0])) / e), round((left + a / 2 - float(cube["x"][0])) / a)
            inner = slice(max(y, 0), y + image.shape[1]), slice(max(x, 0), x + image.shape[2])
            expected = np.concatenate([whole[n]["data"].to_numpy()[0][:, *inner] for n in ("optical", "thermal")])
            seen = image[:, inner[0].start - y :, inner[1].start - x :][:, : expected.shape[1], : expected.shape[2]]
            shown = np.isfinite(expected)
            np.testing.assert_allclose(seen[shown], expected[shown], rtol=1e-5, atol=1e-7)
            assert (seen[~shown] == 0).all()
            assert batch["mask"].dtype == torch.int64
    both = dataset & to_torchgeo(cube, ["thermal"])
    assert len(both.index) == 1
    with pytest.raises(IndexError, match="bounds"):
        dataset[0:480, 0:480]


def test_a_raster_dataset_becomes_scenes(tmp_path):
    from torchgeo.datasets import RasterDataset

    write_scene(tmp_path, "landsat-oli-l1", bands=("B2", "B3"), shape=(64, 64))

    class Scenes(RasterDataset):
        filename_glob = "*_B2.tif"
        filename_regex = r"scene_(?P<band>B\d+)\.tif"
        separate_files = True
        all_bands = ("B2", "B3")

    with pytest.warns(SourceWarning, match='time="2020-06-01'):
        from_torchgeo(Scenes(str(tmp_path)), "landsat-oli-l1")
    scenes = from_torchgeo(Scenes(str(tmp_path)), "landsat-oli-l1", time="2020-06-01")
    assert {s.time.isoformat() for s in scenes} == {"2020-06-01T00:00:00+00:00"}
    assert [list(s.bands) for s in scenes] == [["B2", "B3"]]
    ours = geomm.build_catalog(tmp_path, tmp_path / "c", sensors=("landsat-oli-l1",), datetime="2020-06-01").search()
    a, b = (geomm.load_cube(s, geomm.common_geobox(s)).compute() for s in (scenes, ours))
    np.testing.assert_array_equal(a["landsat-oli-l1"]["data"].to_numpy(), b["landsat-oli-l1"]["data"].to_numpy())
    np.testing.assert_array_equal(a["landsat-oli-l1"]["valid"].to_numpy(), b["landsat-oli-l1"]["valid"].to_numpy())
    with pytest.raises(CatalogError, match="bands are not those of the sensor"):
        from_torchgeo(Scenes(str(tmp_path)), "sentinel1-rtc", time="2020-06-01")


@pytest.fixture(scope="module")
def series(cube):
    """The cube at three dates, of which the thermal has one; the first optical date has a hole."""
    optical = cube["optical"].to_dataset().compute()
    dates = np.array(["2020-06-01T10:00", "2020-06-17T10:00", "2020-07-03T10:00"], "M8[ns]")
    steps = [optical.assign(data=optical["data"] + np.uint16(1000 * k)) for k in range(3)]
    steps[0]["valid"] = steps[0]["valid"] & (optical["y"] < float(optical["y"][40]))
    nodes = {n: cube[n].to_dataset().compute() for n in ("thermal", "label")}
    many = xr.concat(steps, "time", combine_attrs="override").assign_coords(time=dates)
    return xr.DataTree.from_dict({"/": cube.to_dataset(), "optical": many, **nodes})


def test_the_time_of_a_query_counts(series):
    from torch.utils.data import DataLoader
    from torchgeo.datasets import stack_samples
    from torchgeo.samplers import GriddedPatchSampler, SequentialTimestampSampler

    dataset = to_torchgeo(series, ["optical", "thermal"])
    assert len(dataset) == 3
    assert dataset.all_bands == ("B2", "B3", "B4", "B10", "B11")
    physical = geomm.calibrated(series)
    sampler = GriddedPatchSampler(dataset, size=(96, 128)) @ SequentialTimestampSampler(dataset)
    batches = list(DataLoader(dataset, sampler=sampler, collate_fn=stack_samples))
    assert len(batches) == 3
    for k, batch in enumerate(batches):
        wanted = physical["optical"]["data"].to_numpy()[k]
        assert batch["image"].shape == (1, 5, 96, 128)
        np.testing.assert_allclose(batch["image"][0, :3], np.nan_to_num(wanted), rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(batch["mask_valid"][0, :3], np.isfinite(wanted))
        heat = physical["thermal"]["data"].to_numpy()[0]  # its only date is the nearest of any
        np.testing.assert_allclose(batch["image"][0, 3:], np.nan_to_num(heat), rtol=1e-5)
    whole, later = dataset[:, :], dataset[:, :, pd.Timestamp("2020-06-10") : pd.Timestamp("2020-06-20")]
    valid = series["optical"]["valid"].to_numpy()
    assert (valid[0] != valid[1]).any()
    wanted = np.where(valid[0], *physical["optical"]["data"].to_numpy()[:2])
    np.testing.assert_allclose(whole["image"][:3], np.nan_to_num(wanted), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(later["image"], batches[1]["image"][0])
    stacked = to_torchgeo(series, ["optical", "thermal"], times="series")[:, :]
    assert stacked["image"].shape == stacked["mask_valid"].shape == (3, 5, 96, 128)
    for k in range(3):
        np.testing.assert_array_equal(stacked["image"][k], batches[k]["image"][0])
    with pytest.raises(IndexError, match="no time step"):
        dataset[:, :, pd.Timestamp("2021-01-01") : pd.Timestamp("2021-02-01")]
    with pytest.raises(ConfigError, match="unknown way"):
        to_torchgeo(series, ["optical"], times="all")


@pytest.mark.filterwarnings("ignore:Use torchgeo.samplers")
def test_the_older_samplers_too(series):
    from torch.utils.data import DataLoader
    from torchgeo.datasets import stack_samples
    from torchgeo.samplers import GridGeoSampler, PreChippedGeoSampler, RandomBatchGeoSampler, RandomGeoSampler

    dataset = to_torchgeo(series, ["optical"], target=TARGET)
    samplers = {
        "sampler": [
            RandomGeoSampler(dataset, size=16, length=4),
            GridGeoSampler(dataset, size=32, stride=32),
            PreChippedGeoSampler(dataset),
        ],
        "batch_sampler": [RandomBatchGeoSampler(dataset, size=16, batch_size=2, length=4)],
    }
    counts = [
        sum(len(batch["image"]) for batch in DataLoader(dataset, collate_fn=stack_samples, **{kind: sampler}))
        for kind, some in samplers.items()
        for sampler in some
    ]
    assert counts == [4, 3 * 12, 3, 4]


def test_together_with_files(series, tmp_path):
    from torchgeo.datasets import RasterDataset

    geobox = geomm.cube.geobox_of(series)
    labels = np.arange(96 * 128, dtype=np.uint8).reshape(96, 128) % 3
    place = {"transform": geobox.affine, "crs": "EPSG:32632", "width": 128, "height": 96, "count": 1}
    with rasterio.open(tmp_path / "labels.tif", "w", driver="GTiff", dtype="uint8", **place) as file:
        file.write(labels, 1)

    class Labels(RasterDataset):
        filename_glob = "labels.tif"
        is_image = False

    both = to_torchgeo(series, ["optical"]) & Labels(str(tmp_path))
    assert len(both) == 3
    sample = both[:, :]
    np.testing.assert_array_equal(sample["mask"], labels)
    assert sample["image"].shape == (3, 96, 128)
    other = Labels(str(tmp_path), crs=rasterio.CRS.from_epsg(32633))
    with pytest.raises(GridError, match="keeps its CRS"):
        other & to_torchgeo(series, ["optical"])
    with pytest.raises(GridError, match="keeps its resolution"):
        Labels(str(tmp_path), res=60) & to_torchgeo(series, ["optical"])
    with pytest.raises(GridError, match="its pixels"):
        to_torchgeo(series, ["optical"])[::60, ::60]
    half = series.isel(x=slice(0, 64))
    either = to_torchgeo(half, ["optical"]) | to_torchgeo(series.isel(x=slice(64, None)), ["optical"])
    np.testing.assert_allclose(either[either.bounds]["image"], to_torchgeo(series, ["optical"])[:, :]["image"])
    (scene,) = from_torchgeo(Labels(str(tmp_path)), "landcover")
    node = geomm.load_cube([scene], geobox)["landcover"]
    np.testing.assert_array_equal(node["data"].to_numpy()[0, 0], labels)
    with pytest.raises(ConfigError, match="no files"):
        from_torchgeo(both, ["landsat-oli-l1", "landcover"])


def test_several_data_sets_of_files(tmp_path):
    from torchgeo.datasets import RasterDataset

    place = {"transform": rasterio.Affine(10, 0, 5e5, 0, -10, 4e6), "crs": "EPSG:32632", "width": 8, "height": 8}
    pixels = np.arange(3 * 64, dtype=np.int16).reshape(3, 8, 8)
    with rasterio.open(tmp_path / "s2_20200601.tif", "w", driver="GTiff", dtype="int16", count=3, **place) as file:
        file.write(pixels)
    with rasterio.open(tmp_path / "lc.tif", "w", driver="GTiff", dtype="uint8", count=1, **place) as file:
        file.write(pixels[0].astype(np.uint8), 1)

    class Images(RasterDataset):
        filename_glob = "s2_*.tif"
        filename_regex = r"s2_(?P<date>\d{8})\.tif"
        all_bands = ("blue", "green", "red")
        nodata = 7

    class Labels(RasterDataset):
        filename_glob = "lc.tif"
        is_image = False

    scenes = from_torchgeo(Images(str(tmp_path)) & Labels(str(tmp_path)), ["sentinel2-l2a", "landcover"])
    assert [s.sensor for s in scenes] == ["sentinel2-l2a", "landcover"]
    assert list(scenes[0].bands) == ["B02", "B03", "B04"]
    assert scenes[0].time.date().isoformat() == "2020-06-01"
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes))
    np.testing.assert_array_equal(cube["sentinel2-l2a"]["valid"].to_numpy()[0], (pixels != 7).all(0))
    np.testing.assert_array_equal(cube["sentinel2-l2a"]["data"].to_numpy()[0], pixels)
    with pytest.raises(ConfigError, match="1 sensors"):
        from_torchgeo(Images(str(tmp_path)) | Labels(str(tmp_path)), ["landcover"])


def test_transforms_turn_image_mask_and_validity_alike(series):
    from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip

    flip = AugmentationSequential(RandomHorizontalFlip(p=1.0), data_keys=None, keepdim=True)
    plain = to_torchgeo(series, ["optical"], target=TARGET)
    turned = to_torchgeo(series, ["optical"], target=TARGET, transforms=flip)
    left, top = plain.bounds[0].start, plain.bounds[1].stop
    where = slice(left, left + 480), slice(top - 480, top)
    a, b = plain[where], turned[where]
    assert not a["mask_valid"].all()
    for key in ("image", "mask", "mask_valid"):
        np.testing.assert_array_equal(b[key], a[key].flip(-1))
        assert b[key].dtype == a[key].dtype
    again = pickle.loads(pickle.dumps(plain))
    np.testing.assert_array_equal(again[where]["image"], a["image"])


def test_it_draws_samples(series):
    from matplotlib import pyplot as plt

    dataset = to_torchgeo(series, ["optical"], target=TARGET)
    assert dataset.rgb_bands == ("B4", "B3", "B2")
    figure = dataset.plot(dataset[:, :], suptitle="June")
    assert [a.get_title() for a in figure.axes] == ["Image", "Mask"]
    assert figure.axes[0].images[0].get_array().shape == (96, 128, 3)
    assert figure.get_suptitle() == "June"
    bare = to_torchgeo(series, ["optical"], times="series")
    assert [a.get_title() for a in bare.plot(bare[:, :], show_titles=False).axes] == [""]
    plt.close("all")
