"""The notebooks run from the first cell to the last, with the network blocked, and show pictures."""

from __future__ import annotations

import ast
import base64
import io
import os
import re
import shutil
import subprocess
import sys
from functools import cache

import jupytext
import nbformat
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))


@cache
def namespace():
    """How to start a process that has no network but its own loopback; empty where the system does not allow it."""
    command = ["unshare", "--map-root-user", "--net"]
    allowed = shutil.which("unshare") and subprocess.run([*command, "true"], check=False, capture_output=True)
    return command if allowed and allowed.returncode == 0 else []


def blocked(folder):
    """Return the environment of a process whose libraries reach nothing but this machine, without a namespace."""
    (folder / "sitecustomize.py").write_text(
        "import socket\n"
        "_connect = socket.socket.connect\n"
        "def connect(self, address):\n"
        "    if self.family != socket.AF_UNIX and not str(address[0]).startswith(('127.', '::1', 'localhost')):\n"
        "        raise OSError(f'the network is blocked: {address}')\n"
        "    return _connect(self, address)\n"
        "socket.socket.connect = connect\n"
    )
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": paths, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def pictures(book):
    """Yield the pictures of an executed notebook."""
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                yield np.asarray(Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))).convert("RGB"))


@pytest.mark.demo
@pytest.mark.words
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_without_a_network(path, tmp_path):
    work, guard, out = tmp_path / "work", tmp_path / "guard", tmp_path / "out.ipynb"
    work.mkdir()
    guard.mkdir()
    mode = ["--namespace"] if namespace() else []
    command = [*namespace(), sys.executable, str(ROOT / "tests/notebook_run.py"), str(path), str(out), *mode]
    env = {
        **os.environ,
        **blocked(guard),
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    book = nbformat.read(out, 4)
    shown = list(pictures(book))
    assert shown, "no picture"
    assert all(np.ptp(p) > 50 for p in shown), "a picture is blank"
    text = "".join(o.get("text", "") for c in book.cells for o in c.get("outputs", ()) if o.get("name") == "stderr")
    assert "Warning" not in text, text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_thin_and_tells_a_story(path):
    book = jupytext.read(path)
    code = [c.source for c in book.cells if c.cell_type == "code"]
    told = [c.source for c in book.cells if c.cell_type == "markdown"]
    assert told
    assert told[0].startswith("# ")
    assert len("\n".join(told).split()) > 200  # says why, not only how
    tree = ast.parse("\n".join(line for c in code for line in c.splitlines() if not line.startswith("%")))
    assert not [n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    assert all(len(c.splitlines()) <= 30 for c in code)


def test_there_are_seven():
    assert [p.stem[:2] for p in NOTEBOOKS] == [f"{k:02}" for k in range(1, 8)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_links_between_notebooks_lead_somewhere(path):
    for name in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / name).exists(), name
