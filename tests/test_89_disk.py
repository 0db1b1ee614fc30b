"""Disks that are full, read-only or forbidden: a clean end, nothing half-published, and the same command goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from batches import published, write_archive, write_composites

from geomm.batch import run_batch
from geomm.config import load_batch

FULL = bool(os.environ.get("GEOMM_SOAK"))
GEOMM = [sys.executable, "-W", "ignore", "-m", "geomm"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A recipe, and what a run of it publishes."""
    folder = tmp_path_factory.mktemp("disk")
    recipe = write_composites(folder, write_archive(folder / "archive", range(2)))
    assert run_batch(load_batch(recipe), folder / "whole").code == 0
    return recipe, published(folder / "whole")


def run(recipe, out, *, first=()):
    return subprocess.run(
        [*first, *GEOMM, "run", str(recipe), "--out", str(out)], capture_output=True, text=True, check=False
    )  # fmt: skip


def check(told, out, files):
    """The run ended in order: one line that says where and why, and only whole units."""
    assert told.returncode == 1, (told.stdout, told.stderr)
    assert "Traceback" not in told.stderr
    assert "geomm: " in told.stderr
    assert str(out) in told.stderr
    there = published(out) if out.is_dir() else {}
    items = {Path(n).parent for n in there if n.startswith("heat/2020") and n.endswith(".json") and "catalog" not in n}
    for place in items:
        assert {n: h for n, h in there.items() if Path(n).parent == place} == {
            n: h for n, h in files.items() if Path(n).parent == place
        }


@contextmanager
def disk(path, size):
    """A file system of its own."""
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a file system of its own cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


# What 2 scenes, ledger and pages take is about 350 KB: the disk is full at the ledger, while a unit is made, while one
# is published, and when nothing but the catalog and the page are left.
@pytest.mark.parametrize("size", [16, 60, 120, 180, 240, 300] if FULL else [180])
def test_a_full_disk(whole, tmp_path, size):
    recipe, files = whole
    with disk(tmp_path / "disk", f"{size}k"):
        out = tmp_path / "disk" / "out"
        told = run(recipe, out)
        if told.returncode == 0:
            pytest.fail(f"{size} KB are enough")
        check(told, out, files)
        subprocess.run(["mount", "-o", "remount,size=20m", str(tmp_path / "disk")], check=True)
        again = run(recipe, out)
        assert again.returncode == 0, again.stderr
        assert published(out) == files


def test_a_disk_that_becomes_read_only(whole, tmp_path):
    recipe, files = whole
    with disk(tmp_path / "disk", "20m"):
        out = tmp_path / "disk" / "out"
        process = subprocess.Popen(
            [*GEOMM, "run", str(recipe), "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while process.poll() is None and not list(out.glob("heat/*/*/*.json")):
            time.sleep(0.005)
        for _ in range(200):  # refused while a file is open for writing
            if not subprocess.run(
                ["mount", "-o", "remount,ro", str(tmp_path / "disk")], capture_output=True, check=False
            ).returncode:
                break
        said, errors = process.communicate(timeout=120)
        subprocess.run(["mount", "-o", "remount,rw", str(tmp_path / "disk")], check=True)
        if process.returncode:  # else it was done before
            check(subprocess.CompletedProcess([], process.returncode, said, errors), out, files)
        assert run(recipe, out).returncode == 0
        assert published(out) == files


PLACES = ["", "out/.geomm/staging", "out/heat/2020-01", "out/.geomm", "out/.geomm/runs", "out/heat"]


@pytest.mark.parametrize("place", PLACES if FULL else PLACES[:3])
def test_no_permission(whole, tmp_path, place):
    recipe, files = whole
    forbidden, out = tmp_path / place, tmp_path / "out"
    forbidden.mkdir(parents=True, exist_ok=True)
    forbidden.chmod(0o500)
    plain = []
    if os.geteuid() == 0:  # root may do anything, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("root may write anywhere, and setpriv is not here")
        plain = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    try:
        told = run(recipe, out, first=plain)
    finally:
        forbidden.chmod(0o700)
    if place == "out/.geomm/runs":  # all is published; only the page is missing
        assert told.returncode == 0
        assert "the page of the run cannot be written" in told.stderr
    else:
        check(told, out if place else tmp_path, files)
    assert run(recipe, out, first=plain).returncode == 0
    assert published(out) == files
