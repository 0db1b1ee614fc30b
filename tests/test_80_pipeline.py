"""The whole path, on synthetic scenes and on real ones, through Python and the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate
from typer.testing import CliRunner

import geomm
from geomm import cli
from geomm.errors import GeommError
from geomm.pipeline.apply import predict_source
from geomm.testing import ORIGIN, write_scene

ROOT = Path(__file__).resolve().parents[1]
RUNNER = CliRunner()
QUICK = {"train.steps": 6, "train.batch": 4, "train.seeds": [0, 1], "chips.number": 24, "model.width": 4}


@pytest.fixture(scope="module")
def result(recipe, tmp_path_factory):
    told = []
    out = tmp_path_factory.mktemp("run") / "out"
    done = geomm.run(geomm.load_recipe(recipe, QUICK), out, progress=lambda *a: told.append(a))
    assert {stage for stage, _, _ in told} == {"train optical", "train thermal", "train fused", "map clouds"}
    assert all(0 < k <= n for _, k, n in told)
    return done


def test_a_run_leaves_maps_model_and_report(result):
    out = result.report.parent
    names = sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
    assert [n for n in names if not n.startswith(("catalog/", "model/", "report/"))] == [
        "clouds-class.qml",
        "clouds-class.tif",
        "clouds-class.tif.aux.xml",
        "clouds-probability.qml",
        "clouds-probability.tif",
        "clouds.json",
        "clouds.png",
        "report.html",
        "run.json",
    ]
    for path in result.products["scene"].files.values():
        assert cog_validate(path, strict=True)[0]
    with rasterio.open(result.products["scene"].files["class"]) as file:
        assert (file.transform.c, file.transform.f) == ORIGIN
        data = file.read(1)
        assert (data[:4, :4] == 255).all()
        assert set(np.unique(data)) <= {0, 1, 2, 255}
        assert (data == 255).sum() == 16


def test_the_comparison_has_every_row_and_the_split_its_distance(result):
    facts = json.loads((result.report.parent / "run.json").read_text())
    assert [r["variant"] for r in facts["comparison"]] == ["optical", "thermal", "fused"]
    assert all(len(r["mean_iou_by_seed"]) == 2 for r in facts["comparison"])
    assert facts["pixels"]["blocks"]["scene/test"] > 0
    html = result.report.read_text()
    assert html.count("data:image/png;base64,") == 12  # three charts, light and dark; two modalities, four more
    assert re.findall(r"(?:src|href|srcset)=\"(?!data:)([^\"]*)", html) == ["model/README.md"]
    assert (result.report.parent / "model" / "README.md").is_file()
    assert facts["verdict"]["blocks"] in html


def test_the_package_maps_the_same_scene_to_the_same_bytes(result, landsat_folder, tmp_path):
    package = geomm.load_package(result.package)
    (product,) = predict_source(package, landsat_folder, tmp_path / "maps", datetime="2020-06-01")
    for layer, path in result.products["scene"].files.items():
        with rasterio.open(path) as a, rasterio.open(product.files[layer]) as b:
            np.testing.assert_array_equal(a.read(), b.read())


def test_predicting_every_site_and_day(result, tmp_path):
    for day, x in (("20200101", 0), ("20200105", 0), ("20200101", 90000)):
        for sensor, bands in (("landsat-oli-l1", ("B2", "B3", "B4")), ("landsat-tirs-l1", ())):
            write_scene(tmp_path / "d", sensor, bands=bands, item=f"L{x}_{day}", origin=(ORIGIN[0] + x, ORIGIN[1]))
    products = predict_source(geomm.load_package(result.package), tmp_path / "d", tmp_path / "maps")
    assert sorted(p.item.name for p in products) == [
        "L0_20200101-20200101.json",
        "L0_20200101-20200105.json",
        "L90000_20200101.json",
    ]


def _without_thermal(folder):
    write_scene(folder, "landsat-oli-l1", bands=("B2", "B3", "B4"))


def _without_a_band(folder):
    write_scene(folder, "landsat-oli-l1", bands=("B2", "B3"))
    write_scene(folder, "landsat-tirs-l1")


def _without_crs(folder):
    write_scene(folder, "landsat-oli-l1", bands=("B2", "B3", "B4"), crs=None)
    write_scene(folder, "landsat-tirs-l1")


def _surface_temperature(folder):
    write_scene(folder, "landsat-oli-l2", bands=("B2", "B3", "B4"))
    write_scene(folder, "landsat-tirs-l2", bands=("ST_B10",))


def _damaged(folder):
    write_scene(folder, "landsat-oli-l1", bands=("B2", "B3", "B4"), shape=(600, 600))
    write_scene(folder, "landsat-tirs-l1", shape=(600, 600))
    path = folder / "scene_B11.tif"
    path.write_bytes(path.read_bytes()[:100000])


def _far_aoi(folder):
    write_scene(folder, "landsat-oli-l1", bands=("B2", "B3", "B4"))
    write_scene(folder, "landsat-tirs-l1")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (_without_thermal, [], r"needs: thermal.*wants landsat-tirs-l1.*offers landsat-oli-l1"),
        (_without_a_band, [], r"band B4 is missing.*offers B2, B3"),
        (_without_crs, [], r"not georeferenced.*no CRS"),
        (_surface_temperature, [], r"lacks what the model needs: thermal"),
        (_damaged, [], r"cannot be read.*scene_B11.tif, bands 1, rows"),
        (_far_aoi, ["--aoi=0,0,1,1"], r"the search found nothing.*widen the area"),
        (_far_aoi, ["--aoi=1,2,3"], r"not west,south,east,north"),
        (lambda folder: None, [], r"cannot be read|does not exist"),
    ],
)
def test_bad_input_gives_one_clear_error_and_no_file(result, tmp_path, capsys, monkeypatch, make, options, message):
    make(tmp_path / "data")
    argv = ["geomm", "predict", str(result.package), str(tmp_path / "data"), "-o", str(tmp_path / "maps")]
    monkeypatch.setattr("sys.argv", [*argv, "--datetime", "2020-06-01", *options])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (1, 2)
    error = capsys.readouterr().err
    line = error.strip().splitlines()[-1]
    assert line.startswith("geomm: ")
    assert re.search(message, line)
    assert re.search(r"\[GEOMM-E\d{3}\]$", line)
    assert "Traceback" not in error
    assert not (tmp_path / "maps").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) in ([], ["data"])


def test_empty_splits_and_missing_classes_are_refused(recipe, tmp_path):
    for overrides, message in (
        ({"split.block": 200, "split.buffer": 0}, "split .* is empty"),
        ({"split.buffer": 40}, "leaves nothing of a block"),
        ({"split.kind": "sites"}, "at least two sites"),
        ({"modalities.optical.bands": ["B2", "B99"]}, "unknown band of sensor landsat-oli-l1 'B99'"),
        ({"modalities.optical.sensor": "landsat"}, "unknown sensor 'landsat'"),
        ({"model.fusion": "magic"}, "unknown fusion 'magic'"),
        (
            {
                "label.classes": [
                    {"value": 50, "name": "a", "color": "#000000"},
                    {"value": 51, "name": "b", "color": "#000000"},
                ]
            },
            "no labelled pixel",
        ),
    ):
        with pytest.raises(GeommError, match=message):
            geomm.run(geomm.load_recipe(recipe, QUICK | overrides), tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_modality_without_bands_takes_all(recipe, tmp_path):
    overrides = QUICK | {"modalities": {"thermal": {"sensor": "landsat-tirs-l1"}}, "train.seeds": [0]}
    done = geomm.run(geomm.load_recipe(recipe, overrides), tmp_path / "out")
    assert geomm.load_package(done.package).contract.modalities["thermal"].bands == ("B10", "B11")
    assert [r.variant for r in done.rows] == ["fused"]


def test_a_missing_package_is_one_sentence(recipe, tmp_path):
    overrides = {"source": {"package": "no_such_imagery", "folder": "x", "sensors": ["landsat-bqa"]}}
    with pytest.raises(GeommError, match=r"package no_such_imagery is not installed.*make demo"):
        geomm.run(geomm.load_recipe(recipe, overrides), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_line_from_folder_to_map(result, landsat_folder, tmp_path):
    sensors = [f"--sensor={s}" for s in ("landsat-oli-l1", "landsat-tirs-l1")]
    built = RUNNER.invoke(
        cli.app,
        ["catalog", "build", str(landsat_folder), "-o", str(tmp_path / "c"), *sensors, "--datetime", "2020-06-01"],
    )
    assert built.exit_code == 0, built.output
    found = RUNNER.invoke(cli.app, ["catalog", "search", str(tmp_path / "c")])
    assert "B2/B3/B4" in found.output
    mapped = RUNNER.invoke(cli.app, ["predict", str(result.package), str(tmp_path / "c"), "-o", str(tmp_path / "maps")])
    assert mapped.exit_code == 0, mapped.output
    assert (tmp_path / "maps" / "scene.json").is_file()


def test_run_prints_the_comparison(recipe, tmp_path):
    settings = [f"--set={k}={json.dumps(v)}" for k, v in QUICK.items()]
    done = RUNNER.invoke(cli.app, ["run", str(recipe), "--out", str(tmp_path / "out"), *settings])
    assert done.exit_code == 0, done.output
    assert "thermal" in done.output
    assert "The fused model" in done.output
    assert str(tmp_path / "out" / "report.html") in done.output.replace("\n", "")


def _commands(group, path=()):
    for name, command in group.commands.items():
        yield from _commands(command, (*path, name)) if hasattr(command, "commands") else [(*path, name)]


def test_every_command_explains_itself_with_an_example():
    import typer

    commands = list(_commands(typer.main.get_command(cli.app)))
    assert {("demo",), ("run",), ("predict",), ("catalog", "build"), ("doctor",)} <= set(commands)
    for command in commands:
        shown = RUNNER.invoke(cli.app, [*command, "--help"])
        assert shown.exit_code == 0
        assert f"geomm {' '.join(command)}" in " ".join(shown.output.split())


def test_doctor_sees_a_healthy_installation():
    shown = RUNNER.invoke(cli.app, ["doctor"])
    assert shown.exit_code == 0, shown.output
    assert "fail" not in shown.output
    assert RUNNER.invoke(cli.app, ["--version"]).output.strip() == geomm.__version__


@pytest.mark.shared
@pytest.mark.filterwarnings("ignore:Item .* baseline is unknown")
def test_land_cover_leaves_one_place_out(tmp_path):
    config = geomm.load_recipe(ROOT / "pipelines" / "landcover_s1_s2.yaml", QUICK | {"train.seeds": [0]})
    done = geomm.run(config, tmp_path / "out")
    folds = {r.fold for r in done.rows}
    assert folds == {"282D_485L_3_3", "433D_629L_3_1", "609U_541L_3_0"}
    assert {(r.fold, r.variant) for r in done.rows} == {(f, v) for f in folds for v in ("s2", "s1", "fused")}
    assert len(done.products) == 3
    for row in done.rows:
        assert row.counts.sum() == 224 * 224


@pytest.mark.demo
def test_the_demo_runs_on_the_real_scene(tmp_path):
    config = geomm.load_recipe(ROOT / "pipelines" / "clouds_landsat.yaml", QUICK | {"train.steps": 3})
    done = geomm.run(config, tmp_path / "demo")
    with rasterio.open(done.products["l8"].files["class"]) as file:
        assert file.shape == (603, 627)
        assert file.transform[:6] == (30, 0, 452475, 0, -30, 3408645)
        assert 255 not in file.read(1)
