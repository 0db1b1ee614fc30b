"""A batch does what is new, nothing twice, and says what it could not do."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import rasterio
from batches import published, write_archive, write_item, write_model, write_recipe
from typer.testing import CliRunner

import geomm
from geomm.batch import BatchOptions, run_batch
from geomm.batch.guard import alone
from geomm.cli import app
from geomm.config import load_batch
from geomm.errors import BusyError, ConfigError
from geomm.ledger import Ledger

runner = CliRunner()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def archive(tmp_path, model):
    """Three scenes and a recipe."""
    catalog = write_archive(tmp_path / "archive", range(3))
    return catalog, write_recipe(tmp_path, catalog, model)


def go(recipe, out, **options):
    return run_batch(load_batch(recipe), out, BatchOptions(**options))


def states(result):
    return {u.name: u.state for u in result.units}


def why(result):
    return {a.unit.name: a.why for a in result.actions}


def test_new_scenes_are_mapped_and_published_ones_left_alone(archive, tmp_path, model):
    catalog, recipe = archive
    first = go(recipe, tmp_path / "out")
    assert first.code == 0
    assert states(first) == {f"scene-000{k}": "DONE" for k in range(3)}
    files = published(tmp_path / "out")
    again = go(recipe, tmp_path / "out")
    assert again.code == 0
    assert not again.units
    assert set(why(again).values()) == {"present"}
    assert published(tmp_path / "out") == files
    write_archive(catalog.parent, [3])
    more = go(recipe, tmp_path / "out")
    assert states(more) == {"scene-0003": "DONE"}
    now = published(tmp_path / "out")
    changed = {name for name in files if now[name] != files[name]}
    assert changed <= {"catalog.json", "maps/2020-01/catalog.json", "maps/parquet/2020-01.parquet"}


def test_the_output_is_a_catalog_that_geomm_opens(archive, tmp_path):
    _, recipe = archive
    go(recipe, tmp_path / "out")
    items = geomm.open_catalog(tmp_path / "out").items()
    assert sorted(i.properties["geomm:name"] for i in items) == ["scene-0000", "scene-0001", "scene-0002"]
    with rasterio.open(items[0].assets["class"].get_absolute_href()) as file:
        assert file.shape == (48, 48)
    table = geomm.open_catalog(tmp_path / "out" / "maps" / "parquet").items()
    assert sorted(i.id for i in table) == sorted(i.id for i in items)
    with rasterio.open(table[0].assets["class"].href) as file:
        assert file.shape == (48, 48)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(archive, tmp_path):
    _, recipe = archive
    result = go(recipe, tmp_path / "out", dry_run=True)
    assert why(result) == {f"scene-000{k}": "new" for k in range(3)}
    assert not (tmp_path / "out").exists()
    go(recipe, tmp_path / "out", limit=1)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    planned = go(recipe, tmp_path / "out", dry_run=True)
    assert sorted(why(planned).values()) == ["new", "new", "present"]
    assert {
        p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.suffix not in (".sqlite-shm", ".sqlite-wal")
    } == {p: t for p, t in before.items() if p.suffix not in (".sqlite-shm", ".sqlite-wal")} | {
        tmp_path / "out" / ".geomm": (tmp_path / "out" / ".geomm").stat().st_mtime_ns
    }
    shown = runner.invoke(app, ["run", str(recipe), "--out", str(tmp_path / "out"), "--dry-run"])
    assert shown.exit_code == 0
    assert "2 new, 1 skip; reads 46.1 kB" in shown.output  # 2 scenes of 5 bands of 48 x 48 pixels of 2 bytes


def test_other_models_and_settings_are_other_units(archive, tmp_path, model):
    catalog, recipe = archive
    go(recipe, tmp_path / "out")
    other = write_recipe(tmp_path, catalog, model, layers=["confidence"])
    assert set(why(go(other, tmp_path / "out", dry_run=True)).values()) == {"new"}
    moved = write_recipe(tmp_path, catalog, shutil.copytree(model, tmp_path / "elsewhere"))
    assert set(why(go(moved, tmp_path / "out", dry_run=True)).values()) == {"present"}


def test_a_scene_that_changed_is_mapped_again_and_replaces_the_older_map(archive, tmp_path):
    catalog, recipe = archive
    go(recipe, tmp_path / "out")
    raw = json.loads(catalog.read_text())
    raw["features"][1]["properties"]["updated"] = "2020-02-01T00:00:00Z"
    catalog.write_text(json.dumps(raw))
    result = go(recipe, tmp_path / "out")
    assert states(result) == {"scene-0001": "DONE"}
    listed = [i.id for i in geomm.open_catalog(tmp_path / "out").items()]
    assert len(listed) == 3
    assert result.units[0].place.rpartition("/")[2] in listed


def test_what_is_damaged_is_made_again(archive, tmp_path):
    _, recipe = archive
    go(recipe, tmp_path / "out")
    files = published(tmp_path / "out")
    victim = next((tmp_path / "out" / "maps").rglob("*-class.tif"))
    victim.write_bytes(victim.read_bytes()[:-10])
    result = go(recipe, tmp_path / "out")
    assert sorted(why(result).values()) == ["damaged", "present", "present"]
    assert published(tmp_path / "out") == files


def test_bits_that_flipped_are_found_and_mended(archive, tmp_path):
    _, recipe = archive
    go(recipe, tmp_path / "out")
    files = published(tmp_path / "out")
    victim = next((tmp_path / "out" / "maps").rglob("*-class.tif"))
    content = bytearray(victim.read_bytes())
    content[-5] ^= 4
    victim.write_bytes(content)
    verified = runner.invoke(app, ["runs", "verify", str(tmp_path / "out")])
    assert verified.exit_code == 1
    assert victim.name in verified.output
    assert go(recipe, tmp_path / "out").code == 0
    assert published(tmp_path / "out") == files
    assert runner.invoke(app, ["runs", "verify", str(tmp_path / "out")]).exit_code == 0


def test_a_lost_ledger_is_written_again_from_what_is_published(archive, tmp_path):
    _, recipe = archive
    go(recipe, tmp_path / "out")
    files = published(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / ".geomm")
    result = go(recipe, tmp_path / "out")
    assert set(why(result).values()) == {"present"}
    assert published(tmp_path / "out") == files
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
        assert ledger.counts() == {"DONE": 3}


def test_a_broken_file_is_put_aside_by_name_and_the_others_are_mapped(archive, tmp_path):
    catalog, recipe = archive
    victim = catalog.parent / "imagery" / "scene-0001_B3.tif"
    good = victim.read_bytes()
    victim.write_bytes(good[: len(good) // 2])
    result = go(recipe, tmp_path / "out")
    assert result.code == 3
    assert states(result) == {"scene-0000": "DONE", "scene-0001": "QUARANTINED", "scene-0002": "DONE"}
    bad = next(u for u in result.units if u.state == "QUARANTINED")
    assert "scene-0001_B3.tif" in bad.message
    assert bad.code == "E302"
    assert go(recipe, tmp_path / "out").code == 0  # not tried again, and not a failure of this run
    assert not list((tmp_path / "out" / ".geomm" / "staging").glob("*"))
    shown = runner.invoke(app, ["runs", "show", str(tmp_path / "out")])
    assert "QUARANTINED" in shown.output
    assert "2 done, 1 quarantined" in shown.output
    victim.write_bytes(good)
    assert states(go(recipe, tmp_path / "out")) == {"scene-0001": "DONE"}  # another file: another unit


def test_retry_lets_units_be_tried_again(archive, tmp_path):
    catalog, recipe = archive
    victim = catalog.parent / "imagery" / "scene-0001_B3.tif"
    good, state = victim.read_bytes(), victim.stat()
    victim.write_bytes(bytes(len(good)))
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert go(recipe, tmp_path / "out").code == 3
    victim.write_bytes(good)
    os.utime(victim, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert not go(recipe, tmp_path / "out").units
    told = runner.invoke(app, ["runs", "retry", str(tmp_path / "out"), "scene-0001"])
    assert "1 units wait" in told.output
    assert states(go(recipe, tmp_path / "out")) == {"scene-0001": "DONE"}


def test_too_many_failures_stop_the_run(archive, tmp_path):
    catalog, recipe = archive
    for path in (catalog.parent / "imagery").glob("*_B3.tif"):
        path.write_bytes(b"II*\0 nothing")
    result = go(recipe, tmp_path / "out", max_failures=1)
    assert result.code == 4
    assert "too many" in str(result.error)
    assert sorted(states(result).values()) == ["QUARANTINED", "QUARANTINED"]


def test_imagery_without_data_is_skipped_and_not_listed(archive, tmp_path):
    catalog, recipe = archive
    for path in (catalog.parent / "imagery").glob("scene-0002_*.tif"):
        with rasterio.open(path, "r+") as file:
            file.write(np.zeros(file.shape, file.dtypes[0]), 1)
    result = go(recipe, tmp_path / "out")
    assert result.code == 0
    assert states(result)["scene-0002"] == "SKIPPED"
    skipped = next(u for u in result.units if u.state == "SKIPPED")
    item = json.loads(next((tmp_path / "out" / skipped.place).glob("*.json")).read_text())
    assert item["assets"] == {}
    assert "valid" in item["properties"]["geomm:skipped"]
    assert len(geomm.open_catalog(tmp_path / "out").items()) == 2
    assert not go(recipe, tmp_path / "out").units


def test_since_and_backfill_choose_by_time(archive, tmp_path):
    _, recipe = archive
    assert set(why(go(recipe, tmp_path / "out", since="2020-01-02", dry_run=True))) == {"scene-0001", "scene-0002"}
    assert set(why(go(recipe, tmp_path / "out", backfill="2020-01-01/2020-01-02", dry_run=True))) == {
        "scene-0000",
        "scene-0001",
    }
    assert why(go(recipe, tmp_path / "out", since="7d", dry_run=True)) == {}
    with pytest.raises(ConfigError, match="exclude"):
        BatchOptions(since="7d", backfill="2020-01-01/..")


def test_one_run_at_a_time(archive, tmp_path):
    _, recipe = archive
    with alone(tmp_path / "out" / ".geomm"), pytest.raises(BusyError):
        go(recipe, tmp_path / "out")


def test_every_run_is_listed_with_its_page_and_metrics(archive, tmp_path):
    _, recipe = archive
    metrics = tmp_path / "geomm.prom"
    told = runner.invoke(app, ["run", str(recipe), "--out", str(tmp_path / "out"), "--metrics", str(metrics)])
    assert told.exit_code == 0, told.output
    assert "3 published" in told.output
    assert 'state="done"} 3' in metrics.read_text()
    page = next((tmp_path / "out" / ".geomm" / "runs").glob("*/report.html")).read_text()
    assert "scene-0001" in page
    record = json.loads(next((tmp_path / "out" / ".geomm" / "runs").glob("*/run.json")).read_text())
    assert record["exit_code"] == 0
    assert all(sum(u["seconds"].values()) > 0 for u in record["units"])
    listed = runner.invoke(app, ["runs", "list", str(tmp_path / "out")])
    assert "status 0" in listed.output
    assert "3 done" in listed.output


@pytest.mark.parametrize("change", [{"kind": "dream"}, {"layer": ["class"]}, {"size": "large"}, {"symmetries": 3}])
def test_recipes_are_strict(archive, tmp_path, model, change):
    catalog, _ = archive
    bad = write_recipe(tmp_path, catalog, model, name="bad", **change)
    told = runner.invoke(app, ["run", str(bad)])
    assert isinstance(told.exception, ConfigError)
    assert "stages" in str(told.exception)


def test_an_item_that_vanished_is_a_failure_of_its_unit(archive, tmp_path):
    catalog, recipe = archive
    go(recipe, tmp_path / "out", limit=1)
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
        assert ledger.counts() == {"DONE": 1, "PENDING": 2}
    write_item(catalog.parent / "imagery", 1)
    result = go(recipe, tmp_path / "out")
    assert result.code == 0
