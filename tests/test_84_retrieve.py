"""From a recipe to answers: train, judge, index, ask, ground; stopped, repeated, damaged."""

from __future__ import annotations

import json
import shutil

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import torch
import xarray as xr
import yaml
from rio_cogeo.cogeo import cog_validate
from typer.testing import CliRunner

import geomm
from geomm.cli import app
from geomm.config import load_recipe
from geomm.errors import CatalogError, ConfigError, ContractError, OutputError, PackageError, UnknownNameError
from geomm.grounding import Prompts, ground, read_prompts, zero_shot
from geomm.package import load_package
from geomm.pipeline.ablate import ablate
from geomm.pipeline.checking import verify_folder
from geomm.pipeline.indexing import IndexOptions, index_source, open_index
from geomm.pipeline.retrieve import lines, run_search
from geomm.pipeline.searching import Question, ask, heats, near, number_of, tell
from geomm.retrieval import Index, build
from geomm.retrieval.build import IndexSettings, footprints, index_cube
from geomm.retrieval.embedder import Embedder
from geomm.types import Window

CALLED = {"classes": [{"value": 3, "name": "sky", "color": "#0000ff", "words": ["clear", "no cloud"]},
                      {"value": 7, "name": "cloud", "color": "#ffffff"}], "templates": ["mostly {}", "{}"]}  # fmt: skip


@pytest.fixture(scope="module")
def raw(landsat_folder):
    return {
        "name": "words",
        "task": "contrastive",
        "source": {
            "folder": str(landsat_folder),
            "sensors": ["landsat-oli-l1", "landsat-tirs-l1", "landsat-bqa"],
            "datetime": "2020-06-01",
        },
        "modalities": {
            "optical": {"sensor": "landsat-oli-l1", "bands": ["B2", "B3", "B4"]},
            "thermal": {"sensor": "landsat-tirs-l1"},
        },
        "label": {
            "sensor": "landsat-bqa",
            "decode": "cloud_bqa",
            "classes": [
                {"value": 0, "name": "clear", "color": "#3f7f4f"},
                {"value": 1, "name": "cirrus", "color": "#9ecae1"},
                {"value": 2, "name": "cloud", "color": "#f7f7f7"},
            ],
        },
        "text": {"derive": "labels"},
        "split": {"block": 32, "buffer": 4, "test": 0.4},
        "chips": {"size": 16, "number": 24},
        "model": {"text": "tiny", "embedding": 8, "width": 4, "fusion": "sum"},
        "train": {"steps": 3, "batch": 8, "seeds": [0, 1], "modality_dropout": 0.3},
        "predict": {"size": 32, "halo": 16},
        "queries": ["mostly cloud", "only clear"],
    }


@pytest.fixture(scope="module")
def recipe_file(raw, tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.fixture(scope="module")
def result(recipe_file, tmp_path_factory):
    return run_search(load_recipe(recipe_file), tmp_path_factory.mktemp("run") / "out")


@pytest.fixture(scope="module")
def package(result):
    return load_package(result.package)


def test_a_run_leaves_a_model_an_index_and_answers(result):
    index = open_index(result.index)
    assert len(index) == 48  # 96 x 128 pixels in chips of 16
    table = index.rows(index.numbers)
    assert table["derived"].all()
    assert set(table["sensors"]) == {"landsat-oli-l1,landsat-tirs-l1"}
    assert table["id"].is_unique
    assert set(result.answers) == {"mostly cloud", "only clear"}
    for page in result.answers.values():
        assert "<img" in page.read_text()
        hits = geopandas.read_file(page.with_suffix(".geojson"))
        assert len(hits) == 10
        assert hits["score"].is_monotonic_decreasing
    facts = json.loads((result.package.parent / "search.json").read_text())
    assert facts["derived_captions"]
    names = [d["name"] for d in facts["directions"]]
    assert names[:4] == ["text -> fused", "fused -> text", "text -> optical", "optical -> text"]
    assert {"optical -> thermal", "thermal -> optical"} <= set(names)
    assert all(len(d["runs"]) == 2 for d in facts["directions"])
    told = list(lines(result))
    assert "test chips" in told[0]
    assert any('"mostly cloud"' in line for line in told)
    assert load_package(result.package).metrics["captions"] == "derived, not written by people"


def test_rows_say_what_the_chip_is(result, package, landsat):
    index = open_index(result.index)
    table = index.rows(index.numbers)
    scenes = landsat.search(sensors=["landsat-oli-l1", "landsat-tirs-l1"])
    geobox = geomm.common_geobox(scenes)
    row = table[table["id"] == "scene/32-48/fused"].iloc[0]
    part = geobox[32:48, 48:64]
    want = part.boundingbox
    assert [row[k] for k in ("left", "bottom", "right", "top")] == pytest.approx(
        [want.left, want.bottom, want.right, want.top]
    )
    assert row.geometry.symmetric_difference(part.geographic_extent.geom).area < 1e-9
    assert [link.rpartition("/")[2] for link in json.loads(row["items"])] == ["scene.json"]
    # The vector is that of the model for these very pixels.
    streams = dict(package.contract.modalities)
    cube = geomm.load_cube(scenes, geobox, streams)
    sample = geomm.ChipDataset(cube, [geomm.Chip(0, Window(32, 48, 16, 16), Window(32, 48, 16, 16))], list(streams))[0]
    vector = Embedder.of(package).image(sample)
    number = index.numbers[table["id"].tolist().index("scene/32-48/fused")]
    np.testing.assert_allclose(index.vectors([number])[0], vector, atol=2e-3)
    found = index.search(sample, k=48)
    assert found.loc[number, "score"] == pytest.approx(1.0, abs=1e-3)
    assert found.loc[number, "score"] >= found["score"].iloc[0] - 1e-3


def test_a_gallery_is_the_page_that_a_run_leaves(result, tmp_path):
    index = open_index(result.index)
    found = geomm.gallery(index, "mostly cloud")
    assert found.save(tmp_path / "a.html").read_bytes() == result.answers["mostly cloud"].read_bytes()
    some = index.search("mostly cloud", k=9).iloc[[8, 0]]  # rows as the index gives them, in an order of one's own
    other = geomm.gallery(index, "mostly cloud", hits=some)
    assert other.hits.index.tolist() == some.index.tolist()
    assert other.pictures[1] == found.pictures[0]
    assert np.array_equal(other.heats[1], found.heats[0])
    name = found.hits["id"].iloc[0]
    like = geomm.gallery(index, geomm.Question(like=name, k=3))
    assert like.hits["score"].iloc[0] == pytest.approx(1.0, abs=1e-3)  # itself, or one that is the same to the model
    assert (like.query, len(like)) == (f"like {name}", 3)


def test_a_run_looks_like_its_figures(result):
    html, first = result._repr_html_(), result.directions[0]
    assert "text -&gt; fused" in html
    assert f"{first.ranked[0].ceiling[1]:.3f}" in html
    assert f"{first.ranked[0].recall[1]:.3f}" in html


def test_the_chips_of_a_recipe_can_be_looked_at(recipe_file, result):
    config = load_recipe(recipe_file)
    with pytest.raises(ConfigError, match=r"geomm\.run_search"):
        geomm.run(config, recipe_file.with_name("none"))
    chips = geomm.recipe_chips(config, split="test")
    assert set(chips) == {"scene"}
    first = result.directions[0].ranked[0]
    assert len(chips["scene"]) == first.queries
    assert set(chips["scene"].read([0]).text[0].split()) & {"clear", "cloud", "cirrus"}
    with pytest.raises(UnknownNameError, match="split"):
        geomm.recipe_chips(config, split="validation")


def test_a_heat_map_adds_up_to_the_score(result):
    index = open_index(result.index)
    hits = ask(index, Question("mostly cloud", k=48))
    maps = heats(index, index.embedder.text(["mostly cloud"])[0], hits.index)
    cells = index.cells(hits.index)
    seen = [(c != 0).any(-1) for c in cells]
    means = np.array([m[s].mean() for m, s in zip(maps, seen, strict=True)])
    np.testing.assert_allclose(means, hits["score"], atol=0.02)


def test_a_source_is_indexed_and_only_what_is_new_is_added(package, landsat, tmp_path, monkeypatch):
    once = index_source(package, landsat.href, tmp_path / "once")
    calls = []
    monkeypatch.setattr(Embedder, "images", lambda *_: calls.append(1))
    again = index_source(package, landsat.href, tmp_path / "once")
    assert not calls
    assert len(once) == len(again) == 48  # chips as large as those that the model was trained on
    assert once.about["model_sha256"] == package.sha256


@pytest.mark.parametrize("at", [0, 1, 2, 5])
def test_stopped_it_goes_on_to_the_same_rows(package, landsat, tmp_path, monkeypatch, at):
    settings = IndexSettings(16, "both", side=4, batch=4)
    monkeypatch.setattr(build, "COMMIT", 2)
    whole = index_source(package, landsat.href, tmp_path / "whole", options=IndexOptions(settings))
    done, images = [0], Embedder.images

    def falls(self, batch):
        done[0] += 1
        if done[0] > 3 * (2 * at + 1):  # three views a batch, two batches a commit
            raise KeyboardInterrupt
        return images(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Embedder, "images", falls)
        with pytest.raises(KeyboardInterrupt):
            index_source(package, landsat.href, tmp_path / "part", options=IndexOptions(settings))
    assert len(Index.open(tmp_path / "part")) == at * 2 * 4 * 3
    rest = index_source(package, landsat.href, tmp_path / "part", options=IndexOptions(settings))
    one, other = (i.rows(i.numbers).sort_values("id") for i in (whole, rest))
    assert one["id"].tolist() == other["id"].tolist()
    assert np.array_equal(whole.vectors(one.index), rest.vectors(other.index))
    assert set(one["view"]) == {"fused", "optical", "thermal"}
    assert set(one.loc[one["view"] == "thermal", "sensors"]) == {"landsat-tirs-l1"}


def test_imagery_that_changed_replaces_its_rows(package, landsat, tmp_path):
    index = index_source(package, landsat.href, tmp_path / "index", options=IndexOptions(IndexSettings(32)))
    before = set(index.rows(index.numbers)["id"])
    index = index_source(package, landsat.href, tmp_path / "index", options=IndexOptions(IndexSettings(16)))
    after = index.rows(index.numbers)
    assert len(after) == 48
    assert len(before) == 12
    assert index.jobs["scene"]["chips"] == [[0, 47]]


def test_a_search_by_sensor_sees_rows_of_that_sensor_alone(package, landsat, tmp_path):
    index = index_source(package, landsat.href, tmp_path / "index", options=IndexOptions(IndexSettings(32, "both")))
    assert len(index) == 36
    alone = index.search("mostly cloud", k=99, sensors=["landsat-tirs-l1"])
    assert set(alone["view"]) == {"thermal"}
    everything = index.search("mostly cloud", k=99, sensors=["landsat-tirs-l1", "landsat-oli-l1"])
    assert len(everything) == 36


def test_a_chip_of_one_sensor_finds_those_of_another(package, landsat, tmp_path):
    index = index_source(package, landsat.href, tmp_path / "index", options=IndexOptions(IndexSettings(32, "both")))
    question = Question("", k=5, sensors=("landsat-oli-l1",), like="scene/32-32/thermal")
    hits = ask(index, question)
    assert set(hits["view"]) == {"optical"}
    vector = index.vectors([number_of(index, "scene/32-32/thermal")])[0]
    np.testing.assert_allclose(hits["score"], index.vectors(hits.index) @ vector, atol=1e-3)
    assert hits["items"].iloc[0] == [landsat.search()[0].href]
    with pytest.raises(ConfigError, match="no such chip"):
        ask(index, Question("", like="nowhere"))
    with pytest.raises(ConfigError, match="one of the two"):
        Question("water", like="scene/32-32/thermal")


def test_a_chip_is_told_by_the_texts_that_fit_it(result):
    index = open_index(result.index)
    name = "scene/32-48/fused"
    told = tell(index, name, ["only clear", "mostly cloud", "some cirrus"], k=2)
    vector, texts = index.vectors([number_of(index, name)])[0], ["only clear", "mostly cloud", "some cirrus"]
    scores = index.embedder.text(texts) @ vector
    assert [t for t, _ in told] == [texts[k] for k in np.argsort(-scores)[:2]]
    assert tell(index, name, k=3)[0][1] >= tell(index, name, k=3)[1][1]


def test_places_without_enough_to_see_are_left_out(package, cube, tmp_path):
    embedder, index = Embedder.of(package), Index.create(tmp_path / "index", 8)
    streams = {n: cube.children[n].to_dataset().copy(deep=True) for n in ("optical", "thermal")}
    for node in streams.values():
        node["valid"] = node["valid"] & (node["x"] > node["x"][64])
    holey = xr.DataTree.from_dict({"/": cube.to_dataset(), **streams})
    assert index_cube(index, embedder, holey, job="half", settings=IndexSettings(32)) == 6
    assert index.jobs["half"]["chips"] == [[0, 11]]


def test_the_model_must_be_that_of_the_vectors(result, package, landsat, tmp_path):
    folder = tmp_path / "index"
    Index.create(folder, 8, about={"model_sha256": "0" * 64})
    with pytest.raises(PackageError, match=r"vectors of another model.*000000000000"):
        index_source(package, landsat.href, folder)
    with pytest.raises(PackageError, match="another model"):
        open_index(folder, model=result.package)


def test_a_folder_that_holds_something_is_left_alone(recipe_file, result):
    with pytest.raises(OutputError, match="holds something"):
        run_search(load_recipe(recipe_file), result.package)


def test_other_tasks_are_told_apart(result, recipe_file, recipe, cube, tmp_path):
    config = load_recipe(recipe_file)
    with pytest.raises(ConfigError, match=r"recipes of the task segmentation.*contrastive"):
        ablate(config, tmp_path / "a")
    with pytest.raises(ConfigError, match="recipes of the task contrastive"):
        run_search(load_recipe(recipe), tmp_path / "b")
    with pytest.raises(ContractError, match="makes no map"):
        geomm.predict(cube, load_package(result.package))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, "a contrastive task needs texts"),
        ({"task": "segmentation"}, "text and model.text are for a contrastive task"),
        ({"label": None}, "no labels to derive it from"),
        ({"text": {"derive": "labels", "file": "x.csv"}}, "either file or derive"),
    ],
)
def test_recipes_that_cannot_work_say_so(raw, tmp_path, change, message):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (raw | change).items() if v is not None}))
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)


def test_texts_of_a_file_are_used_and_called_written(raw, tmp_path, landsat):
    scenes = landsat.search()
    west, south, east, north = geomm.common_geobox(scenes).geographic_extent.boundingbox.bbox
    middle = (west + east) / 2
    notes = geopandas.GeoDataFrame(
        {"said": ["a dark lake", "a bright town"]},
        geometry=geopandas.GeoSeries.from_wkt(
            [
                f"POLYGON(({a} {south},{b} {south},{b} {north},{a} {north},{a} {south}))"
                for a, b in ((west, middle), (middle, east))
            ]
        ),
        crs="EPSG:4326",
    )
    notes.to_file(tmp_path / "notes.geojson")
    change = {"text": {"file": "notes.geojson", "column": "said"}, "label": None, "queries": []}
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in (raw | change).items() if v is not None}))
    result = run_search(load_recipe(path), tmp_path / "out")
    table = Index.open(result.index)
    rows = table.rows(table.numbers)
    assert set(rows["text"]) == {"a dark lake", "a bright town"}
    assert not rows["derived"].any()


def test_grounding_is_a_cog_on_the_grid_of_the_scene(result, package, landsat, cube, tmp_path):
    products = CliRunner().invoke(
        app, ["ground", str(result.package), landsat.href, "mostly cloud", "-o", str(tmp_path)]
    )
    assert products.exit_code == 0, products.output
    path = tmp_path / "scene-mostly-cloud-heat.tif"
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as file:
        heat = file.read(1)
        assert file.descriptions == ("mostly cloud",)
        assert file.transform == geomm.cube.geobox_of(cube).affine
        assert np.isnan(heat[:4, :4]).all()  # nodata there in every band
    assert np.isfinite(heat).sum() == heat.size - 16
    item = json.loads((tmp_path / "scene-mostly-cloud.json").read_text())
    assert item["properties"]["geomm:asked"] == {"words": "mostly cloud"}
    style = (tmp_path / "scene-mostly-cloud-heat.qml").read_text()
    low, high = (float(style.split(f'{k}="')[1].split('"')[0]) for k in ("classificationMin", "classificationMax"))
    assert np.nanmin(heat) <= low < high <= np.nanmax(heat) + 1e-6


def test_heat_is_what_the_cells_have_in_common_with_the_words(package, cube):
    """Whatever the blocks, the stream gives what one look at the whole scene gives, away from the border."""
    from geomm.prediction import PredictSettings

    maps = []
    for size, block in ((32, 64), (64, 128)):
        out = np.zeros((96, 128), np.float32)
        for window, prediction in ground(cube, package, "only clear", PredictSettings(size, 32, block)):
            out[window.slices] = prediction.arrays["heat"][0]
        maps.append(out)
    np.testing.assert_allclose(maps[0][8:], maps[1][8:], atol=1e-4)


def test_prompts_map_classes_that_nobody_trained(result, package, landsat, tmp_path):
    file = tmp_path / "prompts.yaml"
    file.write_text(yaml.safe_dump(CALLED))
    done = CliRunner().invoke(
        app, ["ground", str(result.package), landsat.href, "--prompts", str(file), "-o", str(tmp_path / "m")]
    )
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "m" / "scene-prompts-class.tif") as file_:
        assert set(np.unique(file_.read(1))) <= {3, 7, 255}
    item = json.loads((tmp_path / "m" / "scene-prompts.json").read_text())
    prompts = read_prompts(file)
    assert item["properties"]["geomm:asked"] == {"prompts": prompts.to_json(), "sha256": prompts.sha256}


def test_zero_shot_classes_carry_their_prompts(package, cube, tmp_path):
    file = tmp_path / "prompts.yaml"
    file.write_text(yaml.safe_dump(CALLED))
    prompts, embedder = read_prompts(file), Embedder.of(package)
    assert prompts.texts("sky") == ["mostly clear", "clear", "mostly no cloud", "no cloud"]
    vectors = prompts.vectors(embedder)
    mean = embedder.text(prompts.texts("cloud")).mean(0)
    np.testing.assert_allclose(vectors[1], mean / np.linalg.norm(mean), rtol=1e-6)
    chips = list(geomm.ChipGrid((96, 128), 32))
    data = geomm.ChipDataset(cube, chips, ["optical", "thermal"])
    labels = np.array([0, 1, 255] * 4)
    found = zero_shot(embedder, prompts, geomm.ChipBatches([data], 5, shuffle=False).epoch(0), labels=labels)
    assert found.scores.shape == (12, 2)
    known = labels != 255
    facts = found.facts()
    assert facts["accuracy"][0] == pytest.approx((found.predicted[known] == labels[known]).mean())
    assert facts["chips"] == 8
    assert facts["prompts"] == prompts.to_json()
    with pytest.raises(ConfigError, match="one label and one place"):
        zero_shot(embedder, prompts, geomm.ChipBatches([data], 5, shuffle=False).epoch(0), labels=labels[:3])
    with pytest.raises(ConfigError, match="no chips"):
        zero_shot(embedder, prompts, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("classes: []", "names none"),
        ("classes: [{value: 1, name: a}]", "cannot be read"),
        ("classes: [{value: 1, name: a, color: '#000000', wrods: [b]}]", "unknown keys.*wrods"),
        ("classes: [{value: 1, name: a, color: '#000000', words: []}]", "no words for a"),
        ("{classes: [{value: 1, name: a, color: '#000000'}], templates: [x]}", "one {} for the words"),
        ("- 1", "cannot be read"),
    ],
)
def test_prompts_that_mean_nothing_are_refused(tmp_path, content, message):
    (tmp_path / "p.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_prompts(tmp_path / "p.yaml")


def test_words_of_nothing_are_refused(result, package, cube):
    with pytest.raises(ContractError, match="no words"):
        open_index(result.index).search("  ")
    with pytest.raises(ContractError, match="no words"):
        ground(cube, package, "")
    assert Prompts.of("a", "b").sha256 != Prompts.of("b", "a").sha256


def test_the_command_line_indexes_searches_and_verifies(result, landsat, tmp_path):
    run, places = CliRunner(), tmp_path / "places"
    done = run.invoke(app, ["index", landsat.href, str(result.package), "-o", str(places), "--size", "16"])
    assert done.exit_code == 0, done.output
    assert "48 chips of 1 scenes" in done.output
    page, table = tmp_path / "hits.html", tmp_path / "hits.gpkg"
    done = run.invoke(app, ["search", str(places), "mostly cloud", "-k", "3", "-o", str(page), "-o", str(table)])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == 1 + 3 + 2
    assert len(geopandas.read_file(table, layer="hits")) == 3
    done = run.invoke(app, ["search", str(places), "--like", "scene/32-48/fused", "--tell", "-k", "2"])
    assert done.exit_code == 1, done.output  # this index was made without texts
    done = run.invoke(app, ["search", str(result.index), "--like", "scene/32-48/fused", "--tell", "-k", "2"])
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) == 2
    vector = open_index(places).vectors([0])[0]
    assert open_index(places).search(vector.tolist(), k=1)["score"].iloc[0] > 0.999
    far = run.invoke(app, ["search", str(places), "mostly cloud", "--near=100,10,5"])
    assert far.output == "0 hits among 48 chips, seen by landsat-oli-l1 and landsat-tirs-l1\n"
    for wrong in (["x", "--tell"], ["x", "-o", "a.html", "-o", "b.html"], ["x", "-o", "a.shp"], ["x", "--like", "y"]):
        assert isinstance(run.invoke(app, ["search", str(places), *wrong]).exception, ConfigError)
    assert run.invoke(app, ["verify", str(places)]).output == f"{places}: whole\n"
    weights = places / "model" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 4
    weights.write_bytes(damaged)
    done = run.invoke(app, ["verify", str(places)])
    assert done.exit_code == 1
    assert "model.safetensors" in done.output


def test_verify_knows_what_it_looks_at(result, tmp_path):
    assert verify_folder(result.package) == []
    with pytest.raises(PackageError, match="nothing here that has checksums"):
        verify_folder(tmp_path)
    copy = tmp_path / "model"
    shutil.copytree(result.package, copy)
    (copy / "mlm.json").write_text((copy / "mlm.json").read_text().replace("words", "wards", 1))
    assert any("mlm.json" in line for line in verify_folder(copy))


def test_nothing_found_is_an_error(package, landsat, tmp_path):
    with pytest.raises(CatalogError, match="found nothing"):
        index_source(package, landsat.href, tmp_path / "index", datetime="1999-01-01")
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("8.5,47,111.32", (8.5 - 1 / np.cos(np.radians(48)), 46.0, 8.5 + 1 / np.cos(np.radians(48)), 48.0)),
        ("179.9,0,111.32", (178.9 - 0.0001523, -1.0, -179.1 + 0.0001523, 1.0)),
        ("10,89.5,200", (-180.0, 89.5 - 200 / 111.32, 180.0, 90.0)),
    ],
)
def test_near_is_a_box_in_degrees(text, box):
    assert near(text) == pytest.approx(box, abs=1e-4)


@pytest.mark.parametrize("text", ["8,47", "a,b,c", "8,97,1", "8,47,0"])
def test_near_refuses_what_is_no_place(text):
    with pytest.raises(ConfigError, match="place"):
        near(text)


def test_footprints_across_the_antimeridian_are_cut_in_two():
    turn = pyproj.Transformer.from_crs("EPSG:4326", "EPSG:32660", always_xy=True)
    x, y = turn.transform(180.0, 63.1)
    (shape,) = footprints(np.array([[x - 1000, y - 1000, x + 1000, y + 1000]]), "EPSG:32660")
    (inside,) = footprints(np.array([[500_000.0, y - 1000, 502_000.0, y + 1000]]), "EPSG:32660")
    assert (shape.geom_type, inside.geom_type) == ("MultiPolygon", "Polygon")
    west, _, east, _ = shape.bounds
    assert (west, east) == (-180.0, 180.0)
    assert shape.area == pytest.approx(inside.area, rel=0.01)


def test_a_model_in_memory_can_be_asked_without_a_package(result, package):
    embedder = Embedder(package.model())
    assert embedder.text(["a", "b"]).shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(embedder.text(["mostly cloud"]), axis=1), 1, rtol=1e-6)
    with torch.no_grad():
        assert embedder.dimension == 8
