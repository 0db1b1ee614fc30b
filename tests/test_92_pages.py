"""What pages are made of: charts as figures, maps of inputs and splits, notes of a run."""

from __future__ import annotations

import json
import re
import shlex
import warnings
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from paged import notes_of, places, reliability_of, training
from shapely.geometry import Polygon

from geomm import charts
from geomm.chips import SpatialSplit
from geomm.cube import geobox_of
from geomm.errors import ConfigError
from geomm.metrics import Interval
from geomm.pages import Outline, listing, map_of, picture, shares, table
from geomm.pipeline import inputs
from geomm.pipeline.clock import Clock, Notes, noted
from geomm.pipeline.report import write_report
from geomm.pipeline.results import Finished
from geomm.pipeline.summary import warned

FOUND = {("a", "b"): Interval(0.8, 0.7, 0.9), ("a",): Interval(0.6, 0.5, 0.7), ("b",): Interval(0.4, 0.3, 0.5)}
DRAWN = {
    "reliability": lambda theme: charts.reliability([reliability_of(0), reliability_of(1)], theme=theme),
    "intervals": lambda theme: charts.intervals({"$x": FOUND["a",], "y": FOUND["b",]}, "IoU", marked=["y"],
                                                dots={"y": [0.2]}, theme=theme),
    "missing": lambda theme: charts.missing(FOUND, "IoU", theme=theme),
    "curves": lambda theme: charts.curves({"$a": [[3.0, 2.0, 1.0]], "b": [[1.0] * 40, [2.0] * 30]}, theme=theme),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_charts_are_figures_of_either_theme_and_the_same_twice(name):
    light, dark = (DRAWN[name](theme) for theme in (charts.LIGHT, charts.DARK))
    assert isinstance(light, Figure)
    assert charts.png(light) == charts.png(DRAWN[name](charts.LIGHT)) != charts.png(dark)
    assert charts.png(light, dpi=50)[:4] == b"\x89PNG"


def test_charts_show_what_they_were_given():
    found = reliability_of(0)
    mass, confidence, right = found.curve().T
    axes = charts.reliability(found).axes[0]
    np.testing.assert_allclose(axes.lines[1].get_xydata(), np.stack([confidence, right], 1))
    np.testing.assert_allclose(axes.collections[0].get_sizes(), 260 * mass)
    low, high = charts.intervals({"a": Interval(0.5, 0.4, 0.7)}, "IoU", dots={"a": [0.1]}).axes[0].get_xlim()
    assert low < 0.1 < 0.7 < high
    runs = [[4.0, 2.0, 0.0, 4.0, 1.0, 1.0, 1.0, 3.0], [2.0] * 8 + [9.0]]
    curve = charts.curves({"a": runs}, width=2).axes[0].lines[0]
    np.testing.assert_allclose(curve.get_xydata(), np.stack([range(2, 9), [2.5, 1.5, 2, 2.25, 1.5, 1.5, 2]], 1))
    assert len(charts.curves({"a": [[1.0]]}).axes[0].lines[0].get_xydata()) == 1


def test_missing_modalities_are_rows_from_all_to_one_with_the_mean_of_each_number():
    matrix, axes = charts.missing(FOUND, "IoU").axes
    assert [t.get_text() for t in matrix.get_xticklabels()] == ["a", "b"]
    assert [line.get_xdata().tolist() for line in matrix.lines[1:6:2]] == [[0, 1], [0], [1]]
    (mean,) = [line for line in axes.lines if line.get_label() == "mean of as many modalities"]
    np.testing.assert_allclose(mean.get_xydata(), [(0.8, 0.0), (0.5, 1.5)])


def test_charts_of_nothing_are_refused():
    for draw in (
        lambda: charts.reliability([]),
        lambda: charts.intervals({}, "IoU"),
        lambda: charts.missing({}, "IoU"),
        lambda: charts.curves({"a": [[]]}),
    ):
        with pytest.raises(ConfigError):
            draw()


@pytest.mark.parametrize("block", [7, 32, 200])
def test_blocks_on_the_map_are_the_blocks_of_the_split(recipe, block):
    _, (site,), _ = places(recipe)
    shape, rng = tuple(geobox_of(site.cube).shape), np.random.default_rng(block)
    rows, columns = -(-shape[0] // block), -(-shape[1] // block)
    drawn = tuple(map(tuple, rng.integers(0, 2, (rows, columns)).tolist()))
    names = ("train", "test") if len({v for r in drawn for v in r}) == 2 else ("test",)
    drawn = drawn if len(names) == 2 else tuple((0,) * columns for _ in range(rows))
    split = SpatialSplit(shape, block, 0, names, drawn)
    geobox = geobox_of(site.cube)
    back = geobox.crs.transformer_to_crs("EPSG:4326")
    for outline in inputs._blocks(site, split):
        want = 0.0
        for b in split.blocks(outline.kind):
            corners = np.array(
                [(b.x, b.y), (b.x + b.width, b.y), (b.x + b.width, b.y + b.height), (b.x, b.y + b.height)]
            )
            xs, ys = zip(*(geobox.affine @ tuple(map(float, c)) for c in corners), strict=True)
            want += Polygon(np.stack(back(xs, ys), 1)).area
        assert sum(Polygon(ring).area for ring in outline.rings) == pytest.approx(want, rel=1e-4)
        assert f"{len(split.blocks(outline.kind))} blocks" in outline.title


def test_the_map_of_one_place_has_its_blocks_and_that_of_several_their_grids(recipe):
    _, (site,), folds = places(recipe)
    alone = inputs.places_map([site], folds)
    assert 'class="train"' in alone
    assert "test blocks" in alone
    assert "footprint of items" in alone
    several = inputs.places_map([site, replace(site, name="other")], folds)
    assert 'class="site"' in several
    assert 'class="train"' not in several
    split = folds[0].splits["scene"]
    assert inputs.split_map(site, split).count("<path class=") == 3  # the graticule, training, test
    assert inputs.split_map(site, SpatialSplit.whole(split.shape, "test", 32)) == ""
    assert inputs.places_map([], []) == ""


def test_a_footprint_across_longitude_180_is_in_one_piece(recipe):
    _, (site,), _ = places(recipe)
    ring = [[179.5, 10.0], [-179.5, 10.0], [-179.5, 11.0], [179.5, 11.0], [179.5, 10.0]]
    scene = replace(site.scenes[0], footprint={"type": "Polygon", "coordinates": [ring]})
    outline = inputs._scene_outline(scene)
    assert outline.box == (179.5, 10.0, 180.5, 11.0)
    west = Outline("scene", (((-179.4, 10.0), (-179.0, 10.0), (-179.0, 11.0)),))
    svg = map_of([outline, west], {"scene": "items"}, label="x")
    assert ">180°<" in svg
    xs = [float(x) for x in re.findall(r"[ML](-?[\d.]+) ", "".join(re.findall(r'class="scene" d="([^"]*)"', svg)))]
    assert 0 <= min(xs) < max(xs) <= 600
    assert map_of([], {}, label="x") == ""


def test_the_same_run_gives_the_same_bytes_and_says_all(recipe, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = training(recipe, tmp_path / "a"), training(recipe, tmp_path / "b")
    for name in ("report.html", "run.json", "report/reliability.png", "report/scene-labels.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    facts, html = json.loads((tmp_path / "a" / "run.json").read_text()), one.read_text()
    assert facts["command"] == notes_of().command
    assert set(facts["seconds"]) == {"read", "train", "test", "predict", "write"}
    assert {f["item"] for f in facts["inputs"]} == {"scene"}
    assert {name for f in facts["inputs"] for name in f["bands"]} == {"B2", "B3", "B4", "B10", "B11", "BQA"}
    assert all(len(f["files"]) == len(f["bands"]) and all(x["size"] for x in f["files"]) for f in facts["inputs"])
    for row in facts["comparison"]:
        assert 0 < row["ece"] < 1
        assert row["mean_f1"]["interval"][0] <= row["mean_f1"]["value"] <= row["mean_f1"]["interval"][1]
    assert facts["command"] in html
    assert facts["recipe_sha256"] in html
    assert "the processing baseline is unknown" in html
    assert other.parent == tmp_path / "b"
    assert "everything that was found could be read" in warned(Notes())


def test_addresses_are_noted_without_what_signs_them(recipe):
    _, (site,), _ = places(recipe)
    signed = {
        "B2": replace(
            site.scenes[1].bands["B2"], href="https://example.org/B2.tif?sig=secret", size=9, checksum="1220ab"
        )
    }
    scene = replace(site.scenes[1], bands=signed, href="https://example.org/item.json?token=secret")
    facts = inputs.input_facts([replace(site, scenes=(scene,))])
    assert facts[0]["files"] == [{"href": "https://example.org/B2.tif", "size": 9, "checksum": "1220ab"}]
    said = inputs.inputs_table(facts)
    assert "secret" not in said + json.dumps(facts)
    assert "1220ab" in said
    many = inputs.inputs_table(facts * (inputs.LISTED + 5))
    assert "5 more are in run.json" in many
    assert many.count("<tr>") == inputs.LISTED + 1


def test_warnings_are_noted_once_and_still_warned_of():
    notes = Notes()
    with pytest.warns(UserWarning, match="damaged|another") as heard, noted(notes):  # noqa: PT031
        warnings.warn("a file is damaged", stacklevel=1)
        warnings.warn("a file is damaged", stacklevel=2)
        warnings.warn("another", stacklevel=1)
    assert notes.warnings == ["a file is damaged", "another"]
    assert {str(w.message) for w in heard} == set(notes.warnings)
    with pytest.raises(ZeroDivisionError), noted(notes):
        _ = 1 / 0


def test_a_clock_counts_every_moment_once(monkeypatch):
    now = iter([10.0, 12.0, 13.0])
    monkeypatch.setattr("geomm.pipeline.clock.time.perf_counter", lambda: next(now))
    clock, told = Clock(started=9.0), []
    clock.lap("read")
    clock.during("predict", lambda *a: told.append(a))("map", 1, 2)
    clock.lap("read")
    assert clock.seconds == {"read": 2.0, "predict": 2.0}
    assert told == [("map", 1, 2)]


def test_parts_of_a_page():
    assert table(["A", "B"], [["1", "2"]], figures=1).count("<td") == 2
    assert "width:75.000%" in shares([("a", "A", 3.0), ("b", "B", 1.0), ("c", "C", 0.0)])
    assert listing("a: <b>\n  c: 1\x1b") == "<pre><code>a: &lt;b&gt;\n  c: 1</code></pre>"
    assert picture(b"l", b"d", "x").count("data:image/png;base64,") == 2


def test_a_run_of_one_modality_has_nothing_to_compare(recipe, tmp_path):
    from paged import FUSED, losses, product_of, row

    config, sites, folds = places(recipe)
    config = config.model_copy(update={"modalities": {"thermal": config.modalities["thermal"]}})
    only = row(FUSED, ("thermal",), 0, 0.8)
    products = {"scene": product_of(sites[0], tmp_path, "clouds")}
    page = write_report(tmp_path, Finished(config, sites, folds, [only], products, {("blocks", FUSED): losses(0)}))
    html = page.read_text()
    assert 'class="outcome idle"' in html
    assert "It was run from Python" in html
    assert "Where the time went" not in html
    assert html.count("<figure><img") == 5


def test_the_command_of_a_run_can_be_typed_again(recipe, tmp_path):
    from typer.testing import CliRunner

    from geomm import cli

    seen = {}

    def keep(config, out, *, progress, command):
        seen.update(command=command, config=config)
        raise ConfigError("enough")

    words = ["run", str(recipe), "--set", "train.seeds=[0, 1]", "--out", str(tmp_path / "my out")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geomm.pipeline.recipe.run", keep)
        CliRunner().invoke(cli.app, words)
    assert shlex.split(seen["command"]) == ["geomm", *words]
    assert seen["config"].train.seeds == [0, 1]
