"""A batch does what is new, nothing twice, and says what it could not do."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import rasterio
import yaml
from batches import published, write_archive, write_composites, write_item, write_model, write_recipe
from predicting import save_model
from typer.testing import CliRunner

import geomm
from geomm.batch import BatchOptions, run_batch
from geomm.batch.guard import alone
from geomm.cli import app
from geomm.config import load_batch
from geomm.errors import BusyError, ConfigError
from geomm.ledger import Failure, Ledger

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
    assert "nothing yet" in go(recipe, tmp_path / "out", dry_run=True)._repr_html_()
    first = go(recipe, tmp_path / "out")
    assert first.code == 0
    assert states(first) == {f"scene-000{k}": "DONE" for k in range(3)}
    files = published(tmp_path / "out")
    again = go(recipe, tmp_path / "out")
    assert again.code == 0
    assert not again.units
    assert "nothing to do" in again._repr_html_()
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
    verified = runner.invoke(app, ["runs", "verify", str(tmp_path / "out"), "--mend"])
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


# what a stranger's review found ---------------------------------------------------------------------------------------


def listed(out):
    return sorted(i.properties["geomm:name"] for i in geomm.open_catalog(out).items())


def test_a_window_chooses_periods_and_these_are_whole(tmp_path):
    catalog = write_archive(tmp_path / "archive", range(3))
    raw = yaml.safe_load(write_composites(tmp_path, catalog).read_text())
    raw["stages"][0] |= {"period": "month", "size": 300}
    recipe = tmp_path / "month.yaml"
    recipe.write_text(yaml.safe_dump(raw))
    whole = go(recipe, tmp_path / "out")
    again = go(recipe, tmp_path / "out", since="2020-01-03")
    assert {a.unit.id for a in again.actions} <= {u.id for u in whole.units}
    assert {a.why for a in again.actions} == {"present"}


def test_an_item_that_makes_no_sense_is_put_aside_and_the_others_are_mapped(archive, tmp_path):
    catalog, recipe = archive
    raw = json.loads(catalog.read_text())
    raw["features"][0]["properties"]["datetime"] = "yesterday"
    raw["features"][1]["assets"]["B3"]["href"] = "/vsicurl/http://127.0.0.1/x.tif"
    catalog.write_text(json.dumps(raw))
    result = go(recipe, tmp_path / "out")
    assert result.code == 3
    assert {u.name: (u.state, u.code) for u in result.units} == {
        "scene-0000": ("QUARANTINED", "E201"),
        "scene-0001": ("QUARANTINED", "E305"),
        "scene-0002": ("DONE", ""),
    }
    assert go(recipe, tmp_path / "out").code == 0  # told of once


def test_items_of_one_id_in_two_collections_are_two(archive, tmp_path):
    catalog, recipe = archive
    raw = json.loads(catalog.read_text())
    for k, feature in enumerate(raw["features"][:2]):
        feature |= {"id": "scene", "collection": f"c{k}"}
    catalog.write_text(json.dumps(raw))
    result = go(recipe, tmp_path / "out")
    assert result.code == 0
    assert len({u.name for u in result.units}) == 3
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite") as ledger:
        places = {u.name: tmp_path / "out" / u.place for u in ledger.units()}
    west = {}
    for name, place in places.items():
        with rasterio.open(next(place.glob("*-class.tif"))) as file:
            west[name] = file.bounds.left
    assert len(set(west.values())) == 3


def test_what_is_planned_now_is_what_is_listed(archive, tmp_path, model):
    catalog, recipe = archive
    first = go(recipe, tmp_path / "out")
    other = write_recipe(tmp_path, catalog, model, name="other", layers=["confidence"])
    go(other, tmp_path / "out")
    back = go(recipe, tmp_path / "out")
    assert not back.units
    places = sorted(i.id for i in geomm.open_catalog(tmp_path / "out").items())
    assert places == sorted(u.place.rpartition("/")[2] for u in first.units)


def test_a_scene_that_lost_its_data_or_moved_in_time_leaves_the_list(archive, tmp_path):
    catalog, recipe = archive
    go(recipe, tmp_path / "out")
    raw = json.loads(catalog.read_text())
    raw["features"][0]["properties"]["datetime"] = "2020-03-01T10:00:00Z"
    catalog.write_text(json.dumps(raw))
    for path in (catalog.parent / "imagery").glob("scene-0001_*.tif"):
        with rasterio.open(path, "r+") as file:
            file.write(np.zeros(file.shape, file.dtypes[0]), 1)
    assert sorted(states(go(recipe, tmp_path / "out")).values()) == ["DONE", "SKIPPED"]
    assert listed(tmp_path / "out") == ["scene-0000", "scene-0002"]
    months = [link["title"] for link in json.loads((tmp_path / "out" / "catalog.json").read_text())["links"][1:]]
    assert months == ["maps, 2020-01", "maps, 2020-03"]


def test_a_lost_ledger_finds_what_is_not_planned_too(archive, tmp_path):
    catalog, recipe = archive
    go(recipe, tmp_path / "out")
    raw = json.loads(catalog.read_text())
    raw["features"].pop(0)  # of a catalog that forgets what is old
    catalog.write_text(json.dumps(raw))
    shutil.rmtree(tmp_path / "out" / ".geomm")
    assert not go(recipe, tmp_path / "out", since="2020-01-03").units
    assert listed(tmp_path / "out") == ["scene-0000", "scene-0001", "scene-0002"]


def test_somebody_elses_catalog_and_files_stay(archive, tmp_path):
    _catalog, recipe = archive
    other = tmp_path / "other"
    other.mkdir()
    (other / "catalog.json").write_text(json.dumps({"type": "Catalog", "id": "mine", "links": []}))
    with pytest.raises(ConfigError, match="another catalog"):
        go(recipe, other)
    state = tmp_path / "state"
    for name in ("trash-can", "staging/mine"):
        (state / name).mkdir(parents=True)
    assert go(recipe, tmp_path / "out", state=state).code == 0
    assert (state / "trash-can").is_dir()
    assert (state / "staging" / "mine").is_dir()
    assert runner.invoke(app, ["runs", "verify", str(state)]).exit_code == 0


def test_a_model_that_was_replaced_is_another_model_in_the_same_process(archive, tmp_path):
    catalog, _ = archive
    mine = tmp_path / "mine"
    save_model(mine, seed=1)
    recipe = write_recipe(tmp_path, catalog, mine)
    go(recipe, tmp_path / "out")
    shutil.rmtree(mine)
    save_model(mine, seed=2)
    assert len(go(recipe, tmp_path / "out").units) == 3
    shutil.copytree(mine, tmp_path / "copy")
    fresh = write_recipe(tmp_path, catalog, tmp_path / "copy", name="fresh")
    assert len(go(fresh, tmp_path / "fresh", scheduler="local").units) == 3
    mine_too = {n: h for n, h in published(tmp_path / "out").items() if n.endswith("-class.tif")}
    assert {
        n: h for n, h in published(tmp_path / "fresh").items() if n.endswith("-class.tif")
    }.items() <= mine_too.items()


def test_several_units_that_saw_deaths_come_one_by_one(archive, tmp_path):
    _, recipe = archive
    go(recipe, tmp_path / "out", limit=1)
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite", write=True) as ledger:
        for _ in range(3):
            for unit in ledger.units(states=("PENDING",)):
                ledger.claim(unit, ledger.runs()[0])
            ledger.orphans()
    assert list(states(go(recipe, tmp_path / "out")).values()) == ["DONE", "DONE"]


def test_your_word_on_the_offset_makes_other_units(archive, tmp_path):
    _, recipe = archive
    go(recipe, tmp_path / "out")
    raw = yaml.safe_load(recipe.read_text()) | {"scenes": {"sentinel2_offset": -1000.0}}
    recipe.write_text(yaml.safe_dump(raw))
    assert set(why(go(recipe, tmp_path / "out", dry_run=True)).values()) == {"new"}


def test_what_failed_does_not_hold_up_what_is_new(archive, tmp_path, monkeypatch):
    _catalog, recipe = archive
    go(recipe, tmp_path / "out", limit=1)
    with Ledger(tmp_path / "out" / ".geomm" / "ledger.sqlite", write=True) as ledger:
        first = ledger.units(states=("PENDING",))[0]
        ledger.fail(first, "FAILED", Failure("E304", "no answer", transient=True))
    assert list(states(go(recipe, tmp_path / "out", limit=1))) == ["scene-0002"]
    assert list(states(go(recipe, tmp_path / "out", limit=1))) == ["scene-0001"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"limit": 0}, "limit"),
        ({"since": "99999999999d"}, "time"),
        ({"since": "7days"}, "time"),
        ({"workers": 0}, "workers"),
    ],
)
def test_options_that_make_no_sense(archive, tmp_path, options, told):
    _, recipe = archive
    with pytest.raises(ConfigError, match=told):
        go(recipe, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_stages_are_found_among_earlier_ones(archive, tmp_path, model):
    catalog, _ = archive
    shutil.copytree(model, tmp_path / "maps")
    recipe = write_recipe(tmp_path, catalog, "maps", name="same")  # a package that is called as the stage
    assert go(recipe, tmp_path / "out").code == 0
    raw = yaml.safe_load(recipe.read_text())
    raw["stages"] = [raw["stages"][0] | {"model": "later"}, {"name": "later", "kind": "train", "recipe": "x.yaml"}]
    recipe.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match="comes later"):
        load_batch(recipe)
    raw["stages"] = [{"name": "model", "kind": "train", "recipe": "x.yaml", "source": {"catalog": "y"}}]
    recipe.write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match="from its own recipe"):
        load_batch(recipe)
