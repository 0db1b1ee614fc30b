"""The reference has every public name and every command, and the pages can be built and read without a network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import geomm
from geomm import cli

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def reference():
    spec = importlib.util.spec_from_file_location("reference", DOCS / "reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_in_the_reference_once(reference):
    listed = [name for names in reference.GROUPS.values() for name in names]
    assert sorted(listed) == sorted(set(geomm.__all__) - {"__version__"})


def test_every_command_and_option_is_in_the_reference(reference):
    import typer

    page = reference.command_line()
    seen, todo = 0, [((), typer.main.get_command(cli.app))]
    while todo:
        path, command = todo.pop()
        below = getattr(command, "commands", None)
        if below is not None:
            todo += [((*path, name), one) for name, one in below.items()]
            continue
        seen += 1
        section = page.partition(f"## geomm {' '.join(path)}\n")[2].partition("\n## ")[0]
        assert f"Example: `geomm {' '.join(path)}" in section
        assert all(f"`{o}`" in section for p in command.params if p.name != "help" for o in p.opts if o[0] == "-")
    assert seen > 15


def test_notebooks_become_pages_and_none_is_no_page(reference, tmp_path, monkeypatch):
    monkeypatch.setattr(reference, "HERE", tmp_path / "docs")
    monkeypatch.setattr(reference, "NOTEBOOKS", tmp_path / "notebooks")
    assert reference.notebooks() == ""
    for name in ("01_cube.py", "02_chips.py", "conftest.py"):
        (tmp_path / "notebooks" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "notebooks" / name).write_text("# %% [markdown]\n# # A title\n")
    (tmp_path / "docs").mkdir()
    assert "notebooks/01_cube\nnotebooks/02_chips\n" in reference.notebooks()
    assert sorted(p.name for p in (tmp_path / "docs" / "notebooks").iterdir()) == ["01_cube.py", "02_chips.py"]


def test_the_pages_build_without_a_warning_and_ask_no_other_host(tmp_path):
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("sphinx is not installed (geomm[docs])")
    done = subprocess.run(
        [
            sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees",
            "-D", "nb_execution_mode=off", DOCS, tmp_path / "html",
        ],
        env=os.environ | {"PYTHONPATH": str(DOCS.parent)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "html").rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(https?:[^\"]*)\"", page.read_text())
        assert loaded == [], page
    for style in (tmp_path / "html").rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?https?:", style.read_text()), style
