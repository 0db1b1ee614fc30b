"""`geomm train`, `evaluate` and `ablate` on a synthetic scene: every row, every subset, nothing left out."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

import geomm
from geomm import charts, cli
from geomm.errors import ConfigError, ContractError, OutputError, PackageError, UnknownNameError
from geomm.metrics import mean_iou
from geomm.pipeline.ablate import FUSIONS, ablate, reading
from geomm.pipeline.apply import MapOptions, predict_source
from geomm.pipeline.assess import assess
from geomm.pipeline.compare import Row
from geomm.pipeline.train import train

RUNNER = CliRunner()
QUICK = {
    "train.steps": 6,
    "train.batch": 4,
    "train.seeds": [0, 1],
    "chips.number": 24,
    "model.width": 4,
    "split.validation": 0.2,
    "train.modality_dropout": 0.3,
}
SHARES = MapOptions(weights=True)


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return train(geomm.load_recipe(recipe, QUICK), tmp_path_factory.mktemp("runs") / "clouds")


def test_a_run_says_what_it_was_made_of(run, recipe):
    record = json.loads((run / "run.json").read_text())
    assert {len(record[k]) for k in ("data", "split")} == {64}
    assert list(record["seeds"]) == ["0", "1"]
    for seed in record["seeds"].values():
        assert seed["steps"] == 6
        assert np.isfinite([seed["loss"], *seed["validation"], seed["temperature"]]).all()
    assert (run / "recipe.yaml").is_file()
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and "catalog" not in p.parts}
    train(geomm.load_recipe(recipe, QUICK), run)  # done already
    assert {p: p.stat().st_mtime_ns for p in before} == before
    with pytest.raises(OutputError, match="run of another recipe"):
        train(geomm.load_recipe(recipe, QUICK | {"train.rate": 0.02}), run)


def test_a_run_is_not_judged_on_other_labels(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(record | {"split": "0" * 64}))
    with pytest.raises(PackageError, match="the split are no longer"):
        assess(copy)


def test_names_are_checked_before_anything_is_read(recipe, tmp_path):
    for wrong, error in (({"model.fusion": "magic"}, UnknownNameError), ({"train.loss": "magic"}, UnknownNameError)):
        with pytest.raises(error, match="magic"):
            train(geomm.load_recipe(recipe, QUICK | wrong), tmp_path / "a")
    with pytest.raises(ConfigError, match="predict.size . 2 predict.halo is 63: no multiple of its coarsest stride 4"):
        train(geomm.load_recipe(recipe, QUICK | {"predict.size": 31}), tmp_path / "c")
    with pytest.raises(ConfigError, match="use geomm train"):
        ablate(geomm.load_recipe(recipe, QUICK | {"train.devices": 2}), tmp_path / "b", fusions=["sum"])
    with pytest.raises(ConfigError, match="at least one fusion"):
        ablate(geomm.load_recipe(recipe, QUICK), tmp_path / "b", fusions=[])
    for wrong, why in (
        ({"train.seeds": [0, 0]}, "named once"),
        ({"train.patience": 3, "split.validation": 0.0}, "patience"),
    ):
        with pytest.raises(ConfigError, match=why):
            geomm.load_recipe(recipe, QUICK | wrong)


def test_what_is_not_a_run_is_refused(tmp_path, recipe):
    with pytest.raises(PackageError, match="not a trained run.*geomm train"):
        assess(tmp_path)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="something else than a run"):
        train(geomm.load_recipe(recipe, QUICK), tmp_path)


def test_every_subset_is_judged(run):
    page = assess(run)
    facts = json.loads((run / "evaluation" / "evaluation.json").read_text())
    assert [f["modalities"] for f in facts["subsets"]] == [["optical"], ["thermal"], ["optical", "thermal"]]
    assert len({f["pixels"] for f in facts["subsets"]}) == 1
    for found in facts["subsets"]:
        for name in ("mean_iou", "mean_f1", "accuracy"):
            low, high = found[name]["interval"]
            assert 0 <= low <= high <= 1
        assert 0 <= found["ece"] <= 1
        assert found["log_loss"] > 0
    assert len(facts["temperatures"]) == 2
    html = page.read_text()
    assert html.count("data:image/png;base64,") == 4  # two charts, light and dark
    assert not re.search(r"(src|href|srcset)=\"(?!data:)", html)
    shown = RUNNER.invoke(cli.app, ["evaluate", str(run)])
    assert shown.exit_code == 0, shown.output
    assert "report.html" in shown.output.replace("\n", "")


def test_an_ablation_has_the_unimodal_rows_and_paired_gains(recipe, tmp_path):
    config = geomm.load_recipe(recipe, QUICK | {"train.steps": 3})
    told = []
    page = ablate(config, tmp_path / "a", fusions=["early_sum", "late_stack"], progress=lambda *a: told.append(a))
    facts = json.loads((tmp_path / "a" / "ablation.json").read_text())
    assert list(facts["rows"]) == ["optical", "thermal", "early_sum", "late_stack"]
    assert {stage for stage, _, _ in told} == {f"train {n}" for n in facts["rows"]}
    best = facts["rows"][facts["best_alone"]]
    for name, row in facts["rows"].items():
        assert len(row["by_seed"]) == 2
        assert row["mean_iou"] == pytest.approx(np.mean(row["by_seed"]))
        assert row["parameters"] > 0
        if name in ("early_sum", "late_stack"):
            assert row["gain"]["value"] == pytest.approx(row["mean_iou"] - best["mean_iou"])
        else:
            assert row["gain"] is None
    assert facts["verdict"] in page.read_text()
    with pytest.raises(UnknownNameError, match="unknown fusion 'magic'"):
        ablate(config, tmp_path / "b", fusions=["concat", "magic"])
    assert not (tmp_path / "b").exists()
    assert {geomm.models.fusion.find_fusion(f).stage for f in FUSIONS} == {"early", "mid", "attention", "late"}


def _row(name, modalities, loss, counts):
    from geomm.metrics import Reliability

    bins = np.zeros((600, 3))
    bins[0, 0] = 100
    return Row("all", name, modalities, counts, (Reliability(bins, loss * 100),), 0)


def test_the_reading_adds_up(recipe):
    """Two modalities that say nothing alone and everything together: synergy is all there is."""
    config, counts = geomm.load_recipe(recipe), np.full((1, 1, 2, 2), 25)
    entropy = np.log(2)
    rows = {
        "optical": _row("optical", ("optical",), entropy, counts),
        "thermal": _row("thermal", ("thermal",), entropy, counts),
        "concat": _row("concat", ("optical", "thermal"), 0.1, counts),
    }
    said = " ".join(reading(config, rows, "optical"))
    assert "labels hold 0.693 nats" in said
    assert "optical tells 0.000" in said
    assert f"Shared minus synergy is {0.1 - entropy:+.3f} nats: the modalities tell more together" in said
    rows |= {n: _row(n, (n,), 0.1, counts) for n in ("optical", "thermal")}
    assert f"Shared minus synergy is {entropy - 0.1:+.3f} nats: the modalities mostly tell the same" in " ".join(
        reading(config, rows, "optical")
    )
    rows["thermal"] = _row("thermal", ("thermal",), 2.0, counts)
    said = " ".join(reading(config, rows, "optical"))
    assert "surer than it is right" in said
    assert "synergy" not in said
    assert mean_iou(counts[0, 0]) == pytest.approx(1 / 3)


def test_shares_of_the_modalities_are_a_layer_of_the_map(run, landsat_folder, tmp_path):
    package = geomm.load_package(run / "seed-0" / "model")
    (product,) = predict_source(package, landsat_folder, tmp_path / "maps", datetime="2020-06-01", options=SHARES)
    with rasterio.open(product.files["weight"]) as file, rasterio.open(product.files["class"]) as classes:
        assert file.descriptions == ("optical", "thermal")
        shares, label = file.read(), classes.read(1)
    assert np.isnan(shares[:, label == 255]).all()
    assert ((shares[:, label != 255] >= 0) & (shares[:, label != 255] <= 1)).all()
    assert (shares[:, label != 255].sum(0) <= 1 + 1e-5).all()
    (plain,) = predict_source(package, landsat_folder, tmp_path / "plain", datetime="2020-06-01")
    assert "weight" not in plain.files
    with rasterio.open(plain.files["probability"]) as a, rasterio.open(product.files["probability"]) as b:
        np.testing.assert_array_equal(a.read(), b.read())


def test_a_fusion_without_shares_says_so(recipe, landsat_folder, tmp_path):
    config = geomm.load_recipe(recipe, QUICK | {"train.steps": 1, "train.seeds": [0], "model.fusion": "concat"})
    package = geomm.load_package(train(config, tmp_path / "run") / "seed-0" / "model")
    with pytest.raises(ContractError, match="no shares of its modalities.*fusion concat"):
        predict_source(package, landsat_folder, Path(tmp_path / "maps"), datetime="2020-06-01", options=SHARES)


def test_a_notebook_shows_a_chart_though_nothing_was_plotted_before():
    from IPython.core.formatters import DisplayFormatter

    chart = charts.curves({"loss": [[3.0, 2.0, 1.0]]})
    shown, _ = DisplayFormatter().format(chart)
    assert shown["image/png"].startswith(b"\x89PNG")
