"""Chip stores from the command line: built from a recipe, looked at, checked, exported."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from geomm import StoredChips, cli
from geomm.errors import ConfigError, OutputError

RUNNER = CliRunner()


def test_a_recipe_becomes_a_store(recipe, tmp_path):
    store = tmp_path / "chips"
    built = RUNNER.invoke(cli.app, ["chips", "build", str(recipe), "-o", str(store), "--set", "chips.size=32"])
    assert built.exit_code == 0, built.output
    assert "12 chips" in built.output
    shown = RUNNER.invoke(cli.app, ["chips", "info", str(store)]).output
    assert "complete" in shown
    assert "plain reflectance B2/B3/B4" in shown
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
    record = (store / "store.json").read_bytes()
    (store / "store.json").unlink()
    partly = RUNNER.invoke(cli.app, ["chips", "verify", str(store)])
    assert "whole, but not complete: 12 of 12 chips" in partly.output
    (store / "store.json").write_bytes(record)
    shard = next(p for p in (store / "chips.zarr" / "images").rglob("*") if p.is_file() and p.name != "zarr.json")
    shard.unlink()
    broken = RUNNER.invoke(cli.app, ["chips", "verify", str(store)])
    assert broken.exit_code == 1
    assert str(shard) in broken.output
    again = RUNNER.invoke(cli.app, ["chips", "build", str(recipe), "-o", str(store), "--set", "chips.size=32"])
    assert again.exit_code == 0
    assert RUNNER.invoke(cli.app, ["chips", "verify", str(store)]).exit_code == 0


def test_a_store_may_be_compressed(recipe, tmp_path):
    built = ["chips", "build", str(recipe), "--set", "chips.size=32"]
    sizes = {}
    for option in ("--compress", "--no-compress"):
        done = RUNNER.invoke(cli.app, [*built, "-o", str(tmp_path / option), option])
        assert done.exit_code == 0, done.output
        shown = RUNNER.invoke(cli.app, ["chips", "info", str(tmp_path / option)]).output
        assert ("LZ4   reflectance" in shown) == (option == "--compress")
        sizes[option] = sum(p.stat().st_size for p in (tmp_path / option).rglob("*") if p.is_file())
    assert sizes["--compress"] < sizes["--no-compress"]
    again = RUNNER.invoke(cli.app, [*built, "-o", str(tmp_path / "--compress")])
    assert again.exit_code == 0  # goes on as it is
    other = RUNNER.invoke(cli.app, [*built, "-o", str(tmp_path / "--compress"), "--no-compress"])
    assert isinstance(other.exception, OutputError)


@pytest.mark.parametrize("share", ["2/2", "1", "x/3"])
def test_a_share_that_is_none_is_refused(recipe, tmp_path, share):
    result = RUNNER.invoke(cli.app, ["chips", "build", str(recipe), "-o", str(tmp_path / "s"), "--share", share])
    assert isinstance(result.exception, ConfigError)
    assert not (tmp_path / "s").exists()
