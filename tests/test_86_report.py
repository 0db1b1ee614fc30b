"""The record of a run, its page, its figures for Prometheus."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import struct
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from recorded import ALL, HOSTILE, record_of, unit

from geomm.batch.metrics import write_metrics
from geomm.batch.page.advice import OUTCOMES, next_step
from geomm.batch.page.footprints import footprints
from geomm.batch.page.thumbnails import MOST, SIDE, small_picture
from geomm.batch.record import PARTS, STATES, RunRecord
from geomm.batch.report import write_report
from geomm.errors import ConfigError, GeommError, OutputError
from geomm.pages import duration, size
from geomm.pages.maps import View

SEEN = {"item", "asset", "window", "stage", "name", "message", "code", "digest", "path", "time", "unit"}


class Page(HTMLParser):
    """What a page is made of; whatever is opened is closed."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.words, self._open = [], [], "", []
        self.feed(path.read_bytes().decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *a) for a in attrs]
        if tag not in ("meta", "img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "style" not in self._open:
            self.words += data


# --- the page


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t)[:24])
def test_nothing_of_a_page_but_its_words_comes_from_data(text, tmp_path):
    plain = record_of(*ALL)
    hostile = replace(
        plain,
        **dict.fromkeys(["run", "name", "description", "command", "retry", "recipe_sha256", "version", "host", "outcome"], text),
        stages=tuple(replace(s, stage=text) for s in plain.stages),
        units=tuple(replace(u, **{n: getattr(u, n) and text for n in SEEN}) for u in plain.units),
    )  # fmt: skip
    one = Page(write_report(plain, tmp_path / "a", root=None))
    other = Page(write_report(hostile, tmp_path / "b", root=None))
    assert one.tags == other.tags
    assert one.attributes == other.attributes
    content = (tmp_path / "b" / "report.html").read_bytes().decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069]", content)
    assert len(content) < 1_000_000


def test_page_needs_nothing_else_and_runs_nothing(tmp_path):
    page = Page(write_report(record_of(*ALL), tmp_path, root=tmp_path))
    assert ("meta", "content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes
    assert not {"script", "link", "iframe", "object", "embed", "base", "form", "a", "image", "use"} & set(page.tags)
    assert not [a for a in page.attributes if a[1].startswith("on") or a[1] in ("href", "srcset", "action", "data")]
    content = (tmp_path / "report.html").read_text()
    assert not re.search(r"url\(|@import|@font-face|https?:", content)


def test_page_says_what_became_of_everything(tmp_path):
    words = Page(write_report(record_of(*ALL), tmp_path / "r", root=tmp_path / "my out")).words
    for said in (
        "Some failed.", OUTCOMES[3].words, "geomm run po.yaml --out out --again", f"geomm verify '{tmp_path}/my out'",
        "E302", "rows 0-512, columns 512-1024", "B04", "a file cannot be read", next_step("FAILED", "E302"),
        "10 min 00 s", "1.0 kB published", "maps/item-0.json",
        *(s.lower() for s in STATES),
    ):  # fmt: skip
        assert said in words


def test_a_good_run_offers_no_retry_and_an_empty_one_a_page(tmp_path):
    good = Page(write_report(record_of(unit(), exit_code=0), tmp_path / "a", root=None))
    assert "--again" not in good.words
    assert "verify" not in good.words
    empty = Page(write_report(record_of(exit_code=0), tmp_path / "b", root=tmp_path))
    assert "svg" not in empty.tags
    assert "table" not in empty.tags


def test_same_record_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_report(record_of(*ALL), tmp_path / name, root=tmp_path)
    for file in ("report.html", "run.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_ten_thousand_units_stay_light(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (512, 512, 4), dtype=np.uint8)).save(tmp_path / "noise.png")
    units = [
        unit(k, STATES[k % 6], bbox=(lon, lat, (lon + 181.5) % 360 - 180, lat + 1), code=f"E{k % 997}",
             name=f"{k}" + "<&>" * 99, message="é" * 2000, thumbnail="noise.png")
        for k, (lon, lat) in enumerate(rng.uniform((-180, -89), (180, 88), (10_000, 2)).tolist())
    ]  # fmt: skip
    path = write_report(record_of(*units), tmp_path / "r", root=tmp_path)
    page = Page(path)
    assert path.stat().st_size < 3_000_000
    assert "9,500 more units: the full list is in run.json" in page.words
    assert page.tags.count("img") == MOST
    assert page.tags.count("tr") < 600
    assert len(json.loads((tmp_path / "r" / "run.json").read_text())["units"]) == 10_000


def test_every_known_error_has_advice():
    def leaves(kind):
        return {kind.code} | {c for sub in kind.__subclasses__() for c in leaves(sub)}

    codes = {c for c in leaves(GeommError) if c}
    general = next_step("FAILED", "nothing of the kind")
    assert {c for c in codes if next_step("FAILED", c) == general} == set()
    assert next_step("FAILED", "GEOMM-E304") == next_step("FAILED", "E304")


# --- the map


def boxes(svg, state):
    """Return left, right of the outlines of a state, in units of the map."""
    paths = re.findall(rf'<path class="{state}" d="([^"]*)"', svg)
    found = re.findall(r"M(-?[\d.]+) (-?[\d.]+)h([\d.]+)v([\d.]+)h-([\d.]+)z", "".join(paths))
    return sorted((float(x), float(x) + float(w)) for x, _, w, _, _ in found)


def test_boxes_across_the_antimeridian_are_two():
    wide = footprints(
        record_of(
            unit(0, bbox=(179.0, 10.0, -179.0, 12.0)),
            unit(1, "FAILED", bbox=(-5.0, 10.0, 5.0, 12.0)),
            unit(2, "FAILED", bbox=(-20.0, 10.0, -6.0, 12.0)),
        )
    )
    west, east = boxes(wide, "DONE")
    assert west[1] < 60  # at the left border of the map
    assert east[0] > 540
    near = footprints(
        record_of(unit(0, bbox=(179.0, 10.0, -179.0, 12.0)), unit(1, "FAILED", bbox=(-178.0, 10.0, -177.0, 12.0)))
    )
    west, east = boxes(near, "DONE")
    assert west[1] == pytest.approx(east[0], abs=0.2)  # side by side: the map is turned
    assert boxes(near, "FAILED")[0][0] > east[1]
    assert ">180°<" in near


def test_a_map_has_labels_a_legend_and_says_what_it_lacks():
    svg = footprints(record_of(*ALL, unit(9, bbox=None)))
    assert ">10° E<" in svg
    assert ">47.5° N<" in svg
    assert "1 without a place" in svg
    assert svg.count('class="dot') == len(STATES)
    assert svg.rindex('class="DONE"') < svg.index('class="QUARANTINED"') < svg.index('class="FAILED"')


@pytest.mark.parametrize(
    "box", [(0.0, 0.0, float("nan"), 1.0), (0.0, 5.0, 1.0, 4.0), (-181.0, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0), (0.0, -91.0, 1.0, 0.0)]
)  # fmt: skip
def test_boxes_that_are_none_cost_no_report(box):
    assert unit(bbox=box).bbox is None
    assert footprints(record_of(unit(bbox=box))) == ""


@given(
    st.lists(
        st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90)),
        min_size=1,
        max_size=5,
    )
)
def test_every_outline_lies_on_the_map(corners):
    units = [unit(k, bbox=(w, min(s, n), e, max(s, n))) for k, (w, s, e, n) in enumerate(corners)]
    svg = footprints(record_of(*units))
    high = float(re.search(r'viewBox="0 0 600 ([\d.]+)"', svg)[1])
    assert 100 < high < 3000
    for x, y, w, h, _ in re.findall(r"M(-?[\d.]+) (-?[\d.]+)h([\d.]+)v([\d.]+)h-([\d.]+)z", svg):
        assert -5 <= float(x) <= float(x) + float(w) <= 605
        assert -5 <= float(y) <= float(y) + float(h) <= high + 5


def test_a_view_keeps_shapes_in_its_middle():
    view = View.around([(9.0, 59.0, 11.0, 61.0)])
    (left, top), (right, bottom) = view.place(9.5, 60.25), view.place(10.5, 59.75)
    assert (right - left) / (bottom - top) == pytest.approx(
        1.0, rel=0.01
    )  # at 60 degrees a degree of longitude is half


# --- pictures


def png_head(wide, high):
    """Return a PNG that claims a size and holds one byte."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", wide, high, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_pictures_that_are_none_are_left_out(tmp_path):
    root, rng = tmp_path / "out", np.random.default_rng(0)
    (root / "folder.png").mkdir(parents=True)
    good = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (40, 64, 3), dtype=np.uint8)).save(good, "PNG")
    files = {
        "good.png": good.getvalue(), "cut.png": good.getvalue()[:900], "text.png": b"<svg onload=alert(1)>", "empty.png": b"",
        "large.png": png_head(60_000, 60_000), "lies.png": png_head(2000, 2000), "gif.png": b"GIF89a" + bytes(40),
    }  # fmt: skip
    for name, data in files.items():
        (root / name).write_bytes(data)
    (tmp_path / "secret.png").write_bytes(good.getvalue())
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(root / "pipe.png")
    bad = ["cut.png", "text.png", "empty.png", "large.png", "lies.png", "gif.png", "folder.png", "missing.png", "pipe.png",
           "link.png", "../secret.png", str(tmp_path / "secret.png"), "a\0b.png", "x" * 5000, "/dev/zero", "\ud800"]  # fmt: skip
    assert {name: small_picture(root, name) for name in bad} == dict.fromkeys(bad)
    assert small_picture(root, "good.png") is not None
    units = [unit(k, thumbnail=name) for k, name in enumerate(["good.png", *bad])]
    page = Page(write_report(record_of(*units), tmp_path / "r", root=root))
    assert page.tags.count("img") == 1
    assert f"{len(bad)} could not be read" in page.words


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_pictures_are_small_and_keep_what_is_transparent(mode, tmp_path):
    Image.new(mode, (640, 320)).save(tmp_path / "a.png")
    data = small_picture(tmp_path, "a.png")
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (SIDE, SIDE // 2)
        assert (image.convert("RGBA").getpixel((3, 3))[3] == 0) == (mode in ("RGBA", "LA"))


def test_pictures_are_spread_over_the_run_and_inside_the_page(tmp_path):
    for k in range(60):
        Image.new("RGB", (8, 8), (k, k, k)).save(tmp_path / f"{k}.png")
    page = Page(
        write_report(record_of(*(unit(k, thumbnail=f"{k}.png") for k in range(60))), tmp_path / "r", root=tmp_path)
    )
    sources = [v for t, n, v in page.attributes if (t, n) == ("img", "src")]
    assert {s.split(",")[0] for s in sources} == {"data:image/png;base64"}
    shades = [
        Image.open(io.BytesIO(base64.b64decode(s.split(",")[1]))).convert("RGBA").getpixel((0, 0))[0] for s in sources
    ]
    assert len(shades) == MOST
    assert shades == sorted(set(shades))
    assert shades[-1] >= 57
    assert "24 of 60 pictures" in page.words


# --- the record


def test_record_goes_through_json(tmp_path):
    record = record_of(*ALL, unit(9, bbox=(179.0, 0.0, -179.0, 1.0), seconds={}), unit(10, bbox=None, name=HOSTILE[5]))
    assert RunRecord.from_dict(record.to_dict()) == record
    write_report(record, tmp_path, root=None)
    again = RunRecord.from_dict(json.loads((tmp_path / "run.json").read_text()))
    assert again == record
    assert again.wall == 600
    assert again.count()["FAILED"] == 1
    assert sum(again.count("maps").values()) == len(record.units)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("exit_code",), "3"),
        (("exit_code",), True),
        (("run",), None),
        (("started",), "yesterday"),
        (("finished",), "2024-07-01T03:00:00"),
        (("resident_mb",), float("nan")),
        (("surplus",), 1),
        (("units", 0, "state"), "LOST"),
        (("units", 0, "seconds"), {"sleep": 1.0}),
        (("units", 0, "seconds"), {"read": -1.0}),
        (("units", 0, "bytes"), 1.5),
        (("units", 0, "surplus"), 1),
        (("stages", 0, "done"), None),
    ],
)
def test_record_refuses_what_it_is_not(path, value):
    about = json.loads(json.dumps(record_of(*ALL).to_dict()))
    place = about
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ConfigError):
        RunRecord.from_dict(about)


def test_record_refuses_missing_fields_by_name():
    about = record_of(*ALL).to_dict()
    del about["units"][2]["digest"]
    with pytest.raises(ConfigError, match=r"units\.2\.digest"):
        RunRecord.from_dict(about)


def test_units_refuse_states_and_parts_that_there_are_not():
    with pytest.raises(ConfigError, match="LOST"):
        unit(state="LOST")
    with pytest.raises(ConfigError, match="sleep"):
        unit(seconds={"sleep": 1.0})
    with pytest.raises(ConfigError, match="inf"):
        unit(seconds={"read": float("inf")})


# --- figures for Prometheus

NAME, LABEL = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r"[a-zA-Z_][a-zA-Z0-9_]*"
VALUE = r"(?:[^\\\"\n]|\\\\|\\\"|\\n)*"
SERIES = re.compile(rf'({NAME})(?:\{{((?:{LABEL}="{VALUE}",?)*)\}})? (-?\d+(?:\.\d+)?(?:e[+-]\d+)?)')


def parsed(path):
    """Return the samples of a file in the text format, as strictly as its description has it."""
    text = path.read_bytes().decode()
    assert text.endswith("\n")
    kinds, helped, samples, last = {}, set(), {}, None
    for line in text[:-1].split("\n"):
        if m := re.fullmatch(rf"# HELP ({NAME}) [^\n]+", line):
            assert m[1] not in helped
            helped.add(m[1])
        elif m := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge)", line):
            assert m[1] in helped
            assert m[1] not in kinds
            kinds[m[1]] = m[2]
            assert (m[2] == "counter") == m[1].endswith("_total")
            last = m[1]
        else:
            m = SERIES.fullmatch(line)
            assert m, line
            assert m[1] == last  # the samples of a metric stand together, after its type
            labels = re.findall(rf'({LABEL})="({VALUE})"', m[2])
            plain = {k: re.sub(r"\\(.)", lambda e: "\n" if e[1] == "n" else e[1], v) for k, v in labels}
            assert len(plain) == len(labels)
            key = (m[1], *sorted(plain.items()))
            assert key not in samples
            samples[key] = float(m[3])
    return samples


def value(samples, name, **labels):
    return samples[name, *sorted(labels.items())]


def test_metrics_say_what_the_record_says(tmp_path):
    record = record_of(*ALL, unit(9, stage="index"), exit_code=0)
    write_metrics(record, tmp_path / "new" / "geomm.prom")
    found = parsed(tmp_path / "new" / "geomm.prom")
    for state in STATES:
        assert value(found, "geomm_run_units", run_name="po", stage="maps", state=state.lower()) == 1
    assert value(found, "geomm_run_units", run_name="po", stage="maps", state="present") == 3
    assert value(found, "geomm_run_units", run_name="po", stage="index", state="done") == 1
    assert value(found, "geomm_run_exit_code", run_name="po") == 0
    start, end = 1719802800, 1719803400
    assert value(found, "geomm_run_started_timestamp_seconds", run_name="po") == start
    assert value(found, "geomm_run_finished_timestamp_seconds", run_name="po") == end
    assert value(found, "geomm_run_last_success_timestamp_seconds", run_name="po") == end
    assert value(found, "geomm_run_seconds", run_name="po", stage="maps", part="model") == 24
    assert {dict(k[1:])["part"] for k in found if k[0] == "geomm_run_seconds"} == set(PARTS)
    assert value(found, "geomm_run_retries_total", run_name="po") == 2
    assert value(found, "geomm_run_bytes", run_name="po") == 2000
    assert value(found, "geomm_run_resident_bytes", run_name="po") == 512e6


@pytest.mark.parametrize(
    "name", [*(h for h in HOSTILE if "\ud800" not in h), 'back\\slash "quoted"\nnext', "\\n", "\u2028"]
)
def test_labels_are_escaped_and_read_again(name, tmp_path):
    path = tmp_path / "a.prom"
    write_metrics(record_of(unit(stage=name), name=name, exit_code=0), path)
    assert value(parsed(path), "geomm_run_units", run_name=name, stage=name, state="done") == 1
    later = record_of(unit(stage=name), name=name, finished="2024-08-01T00:00:00Z")
    write_metrics(later, path)
    assert value(parsed(path), "geomm_run_last_success_timestamp_seconds", run_name=name) == 1719803400


def test_lone_surrogates_cost_no_metrics(tmp_path):
    write_metrics(record_of(unit(stage="\ud800"), name="\ud800"), tmp_path / "a.prom")
    assert parsed(tmp_path / "a.prom")


def test_last_success_is_that_of_a_run_that_was_one(tmp_path):
    path, success = tmp_path / "a.prom", "geomm_run_last_success_timestamp_seconds"
    write_metrics(record_of(*ALL), path)
    assert not [k for k in parsed(path) if k[0] == success]
    write_metrics(record_of(unit(), exit_code=0), path)
    write_metrics(record_of(*ALL, finished="2024-07-02T00:00:00Z"), path)
    assert value(parsed(path), success, run_name="po") == 1719803400
    path.write_bytes(b"\xff\x00 rubbish\n" + success.encode() + b'{run_name="po"} nan\n')
    write_metrics(record_of(*ALL), path)
    assert not [k for k in parsed(path) if k[0] == success]


# --- whole or not at all


@pytest.mark.parametrize(
    "write", [lambda r, d: write_report(r, d, root=None), lambda r, d: write_metrics(r, d / "a.prom")]
)
def test_files_appear_whole_or_not_at_all(write, tmp_path, monkeypatch):
    write(record_of(unit()), tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    seen = []

    def fails(self, target):
        seen.append((self.name, Path(target).name))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OutputError, match="No space left"):
        write(record_of(*ALL, name="other"), tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert seen
    assert not [a for a, _ in seen if a.endswith((".prom", ".html", ".json"))]


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0.0 s"), (59.9, "59.9 s"), (59.96, "1 min 00 s"), (3599.4, "59 min 59 s"), (3600, "1 h 00 min"), (200_000, "2 d 7 h")]
)  # fmt: skip
def test_durations(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (123_456_789, "123 MB"), (5e15, "5000.0 TB")],
)
def test_sizes(count, words):
    assert size(count) == words
