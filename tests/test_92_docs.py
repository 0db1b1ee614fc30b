"""The README and the pages of docs/ do what they say: their code is run, page by page, from top to bottom.

Every page has a folder of its own with what the demo leaves, a demo of fewer steps. Python blocks of a page share one
namespace. Commands are run in this process, through the same command table as the shell's `geomm`, because importing
torch for each would take longer than all of them; one page's are run as processes. YAML blocks are checked as what they
are, and written under the name in their first line. Nothing is left out in silence: a fence of another language fails,
and the commands that are not run here are listed with the reason.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import geomm
from geomm import cli
from geomm.config import is_batch, load_batch, load_recipe

ROOT = Path(__file__).resolve().parents[1]
GENERATED = {"api.md", "cli.md", "notebooks.md"}
"""By docs/reference.py, and not in the repository."""
PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += [f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")) if p.name not in GENERATED]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIRECTIVES = {"{toctree}", "{include}", "{eval-rst}"}
"""For Sphinx: `make docs` fails if one is wrong."""

NOT_RUN = {
    "make install": "this test runs in what it made",
    "make demo": "minutes; the fixture runs its recipe with fewer steps, tests/test_80_pipeline.py looks at the result",
    "make test": "it is what runs this test",
    "make docs": "tests/test_93_reference.py builds the same pages",
    "make soak": "hours: the tests of make test with more cases",
    "make bench": "an hour: figures, not behaviour",
    "source .venv/bin/activate": "changes the shell",
    "geomm demo --search": "two minutes; the fixture runs its recipe with fewer steps and the tiny text encoder",
    "geomm catalog search earth_search --sensor sentinel2-l2a --aoi=9,46,9.2,46.2 --datetime 2024-06-01/2024-06-10": (
        "asks a public server; tests/test_21_sources.py asks one of the same kind on loopback"
    ),
    "geomm run pipelines/landcover_s1_s2.yaml --out runs/landcover --set train.steps=60": (
        "its imagery is not part of the project; tests/test_80_pipeline.py runs it where it is"
    ),
}
"""Commands that are shown and not run here, and why; `make` targets must exist."""

ELSEWHERE = {"CONTRIBUTING.md": "tests/test_94_extending.py writes, imports and uses its files"}
"""Pages whose Python blocks another test runs."""

AS_PROCESSES = ("docs/index.md", "README.md")
"""Pages whose commands are started as a shell does it."""


def _fences(page):
    return FENCE.findall((ROOT / page).read_text())


def _lines(code):
    """Commands of a console block, without comments."""
    return [words for line in code.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What the demo leaves, of fewer steps."""
    folder = tmp_path_factory.mktemp("docs")
    quick = {"train.steps": 6, "train.seeds": [0], "chips.number": 48}
    geomm.run(geomm.load_recipe(ROOT / "pipelines" / "clouds_landsat.yaml", quick), folder / "demo")
    return folder


@pytest.fixture(scope="module")
def left_of_search(tmp_path_factory):
    """What the demo of the search leaves, likewise, with texts that need no other package."""
    from geomm.pipeline.retrieve import run_search

    folder = tmp_path_factory.mktemp("docs") / "demo-search"
    quick = {"train.steps": 4, "chips.number": 64, "model.text": "tiny", "split.test": 0.1, "queries": []}
    run_search(geomm.load_recipe(ROOT / "pipelines" / "search_places.yaml", quick), folder)
    return folder


@pytest.fixture
def place(page, request, tmp_path, monkeypatch):
    """A folder as a reader of the page has it."""
    needed = "".join(code for _, code in _fences(page))
    for name in ("pipelines", "catalogs"):
        (tmp_path / name).symlink_to(ROOT / name)
    if "demo/" in needed.replace("demo-search/", ""):
        (tmp_path / "demo").symlink_to(request.getfixturevalue("left") / "demo")
    if "demo-search/" in needed:
        (tmp_path / "demo-search").symlink_to(request.getfixturevalue("left_of_search"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _command(words, page):
    if page in AS_PROCESSES:
        done = subprocess.run(
            [sys.executable, "-m", *words], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )  # fmt: skip
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return
    done = CliRunner().invoke(cli.app, words[1:])
    assert done.exit_code == 0, (words, done.output, done.exception)


def _yaml(code):
    """Check a YAML block as what it is, and write it under its name."""
    name = re.match(r"# (\S+\.yaml)\n", code)
    assert name, "a YAML block says its file name in its first line"
    path = Path(name[1])
    path.write_text(code)
    raw = yaml.safe_load(code)
    if is_batch(raw):
        load_batch(path)
    elif "modalities" in raw:
        load_recipe(path)
    else:
        geomm.read_prompts(path)


@pytest.mark.demo
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.filterwarnings("ignore:Item .* baseline is unknown")
def test_what_a_page_shows_works(page, place, capsys):
    space = {"__name__": page}
    for number, (language, code) in enumerate(_fences(page)):
        if language in DIRECTIVES:
            continue
        assert language in ("python", "console", "yaml"), f"{page}: nothing checks a block of {language!r}"
        if language == "yaml":
            _yaml(code)
        elif language == "console":
            for words in _lines(code):
                if shlex.join(words) not in {shlex.join(shlex.split(line)) for line in NOT_RUN}:
                    assert words[0] == "geomm", f"{page}: {words} is neither run nor listed in NOT_RUN"
                    _command(words, page)
        elif page not in ELSEWHERE:
            exec(compile(code, f"{page}, block {number}", "exec"), space)
    if page == "README.md":
        assert "Window(y=0, x=0" in capsys.readouterr().out


def test_what_is_not_run_is_shown_somewhere_and_exists():
    shown = {shlex.join(w) for p in PAGES for lang, code in _fences(p) if lang == "console" for w in _lines(code)}
    assert {shlex.join(shlex.split(line)) for line in NOT_RUN} <= shown
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in shown if line.startswith("make ")} <= targets


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    text = FENCE.sub("", (ROOT / page).read_text())
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES)
def test_options_in_the_text_of_a_page_exist(page):
    import typer

    known, todo = set(), [typer.main.get_command(cli.app)]
    while todo:
        command = todo.pop()
        known |= {name for option in command.params for name in (*option.opts, "--help")}
        todo += getattr(command, "commands", {}).values()
    text = FENCE.sub("", (ROOT / page).read_text())
    for option in re.findall(r"`(?:[^`]* )?(--[a-z-]+)[^`]*`", text):
        assert option in known | {"--install-completion", "--show-completion"}, f"{page}: {option}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
    assert (ROOT / "docs" / "images" / "scene.png").stat().st_size <= 250_000
