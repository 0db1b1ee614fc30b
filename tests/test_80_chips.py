"""Chip stores from the command line: built from a recipe, looked at, checked, exported."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from geomm import StoredChips, cli
from geomm.errors import ConfigError

RUNNER = CliRunner()


def test_a_recipe_becomes_a_store(recipe, tmp_path):
    store = tmp_path / "chips"
    built = RUNNER.invoke(cli.app, ["chips", "build", str(recipe), "-o", str(store), "--set", "chips.size=32"])
    assert built.exit_code == 0, built.output
    assert "12 chips" in built.output
    shown = RUNNER.invoke(cli.app, ["chips", "info", str(store)]).output
    assert "complete" in shown
    assert "reflectance B2/B3/B4" in shown
    assert "train: 7, test: 5" in shown
    assert RUNNER.invoke(cli.app, ["chips", "verify", str(store)]).exit_code == 0

    tiles = tmp_path / "tiles"
    done = RUNNER.invoke(cli.app, ["chips", "export", str(store), "-o", str(tiles), "--split", "test"])
    assert done.exit_code == 0, done.output
    chips = StoredChips(store).select(split="test")
    assert len(list(tiles.glob("*.tif"))) == 3 * len(chips)
    for k, row in enumerate(chips.table.itertuples()):
        arrays = chips.read([k])
        with rasterio.open(tiles / f"{row.chip:06d}_optical.tif") as file:
            np.testing.assert_array_equal(file.read(), arrays.images["optical"][0, 0])
            np.testing.assert_array_equal(file.dataset_mask() > 0, arrays.valid["optical"][0, 0])
            assert file.descriptions == ("B2", "B3", "B4")
            np.testing.assert_allclose(file.bounds, arrays.bounds[0])
    shard = next(p for p in (store / "chips.zarr" / "images").rglob("*") if p.is_file() and p.name != "zarr.json")
    shard.unlink()
    broken = RUNNER.invoke(cli.app, ["chips", "verify", str(store)])
    assert broken.exit_code == 1
    assert str(shard) in broken.output
    again = RUNNER.invoke(cli.app, ["chips", "build", str(recipe), "-o", str(store), "--set", "chips.size=32"])
    assert again.exit_code == 0
    assert RUNNER.invoke(cli.app, ["chips", "verify", str(store)]).exit_code == 0


@pytest.mark.parametrize("share", ["2/2", "1", "x/3"])
def test_a_share_that_is_none_is_refused(recipe, tmp_path, share):
    result = RUNNER.invoke(cli.app, ["chips", "build", str(recipe), "-o", str(tmp_path / "s"), "--share", share])
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "s").exists()
