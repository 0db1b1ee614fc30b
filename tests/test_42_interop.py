"""A cube through torchgeo's samplers and back: the same pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import geomm
from geomm import radiometry
from geomm.chipping import Target
from geomm.errors import CatalogError
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
            image, good = batch["image"][0].numpy(), batch["valid"][0].numpy()
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

    scenes = from_torchgeo(Scenes(str(tmp_path)), "landsat-oli-l1")
    assert [list(s.bands) for s in scenes] == [["B2", "B3"]]
    ours = geomm.build_catalog(tmp_path, tmp_path / "c", sensors=("landsat-oli-l1",), datetime="2020-06-01").search()
    a, b = (geomm.load_cube(s, geomm.common_geobox(s)).compute() for s in (scenes, ours))
    np.testing.assert_array_equal(a["landsat-oli-l1"]["data"].to_numpy(), b["landsat-oli-l1"]["data"].to_numpy())
    np.testing.assert_array_equal(a["landsat-oli-l1"]["valid"].to_numpy(), b["landsat-oli-l1"]["valid"].to_numpy())
    with pytest.raises(CatalogError, match="bands are not those of the sensor"):
        from_torchgeo(Scenes(str(tmp_path)), "sentinel1-rtc")
