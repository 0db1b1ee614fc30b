"""A CLIP model of others, packaged: it indexes, is asked, and says where."""

from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

import geomm
from geomm.cli import app
from geomm.errors import ConfigError, ContractError, UnknownNameError
from geomm.package import load_package
from geomm.pipeline.adopt import adopt_clip
from geomm.testing import write_scene
from geomm.testing.language import clip_config, write_clip


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s2")
    write_scene(folder, "sentinel2-l2a", bands=("B02", "B03", "B04"), shape=(64, 96), resolution=10.0)
    where = tmp_path_factory.mktemp("catalog") / "c"
    return geomm.build_catalog(folder, where, sensors=("sentinel2-l2a",), datetime="2020-06-01T10:00:00Z").href


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_clip_model_indexes_imagery_and_answers(source, tmp_path):
    write_clip(tmp_path / "clip", clip_config())
    run = CliRunner()
    done = run.invoke(app, ["clip", str(tmp_path / "clip"), "-o", str(tmp_path / "model"), "--size", "32"])
    assert done.exit_code == 0, done.output
    package = load_package(tmp_path / "model")
    assert package.contract.modalities["rgb"].bands == ("B04", "B03", "B02")
    index = geomm.index_source(package, source, tmp_path / "index")
    assert len(index) == 6
    hits = geomm.open_index(tmp_path / "index").search("a lake", k=3)
    assert hits["score"].is_monotonic_decreasing
    scenes = geomm.open_catalog(source).search()
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), dict(package.contract.modalities))
    heat = np.concatenate([p.arrays["heat"].ravel() for _, p in geomm.ground(cube, package, "a lake")])
    assert np.isfinite(heat).mean() > 0.9
    assert np.abs(heat[np.isfinite(heat)]).max() <= 1 + 1e-5  # directions, compared with directions


def test_a_sensor_without_colours_has_no_pictures(tmp_path):
    with pytest.raises(ContractError, match="no visible bands"):
        adopt_clip("ViT-B-32", tmp_path / "m", sensor="sentinel1-rtc")
    with pytest.raises(UnknownNameError):
        adopt_clip("ViT-B-32", tmp_path / "m", sensor="nothing")


def test_a_model_without_weights_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="ViT-B-32:WEIGHTS.pt"):
        adopt_clip("ViT-B-32", tmp_path / "m")
    assert not (tmp_path / "m").exists()
