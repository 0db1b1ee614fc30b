"""The doctor sees what is broken, and says what to do about it."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import rasterio.warp
from typer.testing import CliRunner

from geomm import cli
from geomm.doctor import examine, geodata, machine, packages, self_test, selftest


def _set(name, value):
    return lambda monkeypatch, tmp_path: monkeypatch.setenv(name, value)


def _put(module, name, value):
    return lambda monkeypatch, tmp_path: monkeypatch.setattr(module, name, value)


def _memory(monkeypatch, tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 900000 kB\n")
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")


def _container(monkeypatch, tmp_path):
    (tmp_path / "max").write_text(f"{2**30}\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "max")


def _driver_without_cuda(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")


FULL = SimpleNamespace(free=2**29)
FAULTS = {
    "another PROJ": (geodata.check_environment, _set("PROJ_LIB", "/opt/qgis/share/proj"), "note", "unset PROJ_LIB"),
    "unsafe TLS": (geodata.check_hardening, _set("GDAL_HTTP_UNSAFESSL", "YES"), "note", "unset GDAL_HTTP_UNSAFESSL"),
    "no driver": (geodata.check_gdal, _put(geodata, "DRIVERS", {"NoSuch": "x"}), "fail", "--reinstall rasterio"),
    "no vectors": (geodata.check_vectors, _put(geodata, "VECTORS", ("NoSuch",)), "fail", "--reinstall pyogrio"),
    "wrong PROJ": (geodata.check_proj, _put(geodata, "_by_pyproj", lambda *_: (1.0, 2.0)), "fail", "--reinstall pyproj"),
    "broken PROJ": (geodata.check_proj, _put(rasterio.warp, "transform", lambda *_: 1 / 0), "fail", "--reinstall rasterio"),
    "threads": (machine.check_threads, _set("OMP_NUM_THREADS", "4096"), "note", "export OMP_NUM_THREADS="),
    "no number": (machine.check_threads, _set("OMP_NUM_THREADS", "all"), "note", "unset OMP_NUM_THREADS"),
    "memory": (machine.check_memory, _memory, "note", "--size 128"),
    "container": (machine.check_memory, _container, "note", "--size 128"),
    "disk": (machine.check_disk, _put(shutil, "disk_usage", lambda _: FULL), "note", "--out"),
    "no room": (machine.check_temporary, _put(shutil, "disk_usage", lambda _: FULL), "note", "TMPDIR"),
    "read only": (machine.check_folder, _put(machine, "_unwritable", lambda _: "Permission denied"), "note", "--out"),
    "no temp": (machine.check_temporary, _put(machine, "_unwritable", lambda _: "Read-only"), "fail", "TMPDIR"),
    "cluster": (packages.check_dask, _put(packages, "_version", lambda _: "1.0"), "note", "distributed=="),
    "torch": (machine.check_gpu, _driver_without_cuda, "note", "with CUDA"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen_and_has_one_fix(fault, monkeypatch, tmp_path):
    check, break_it, status, fix = FAULTS[fault]
    break_it(monkeypatch, tmp_path)
    found = check()
    assert found.status == status
    assert fix in found.fix


def test_missing_packages_name_their_extra(monkeypatch):
    monkeypatch.setattr(packages, "_version", lambda name: "" if name in ("rasterio", "obstore") else "1")
    found = {f.name: f for f in packages.check_packages()}
    assert (found["rasterio"].status, found["extra objects"].status) == ("fail", "note")
    assert "geomm[objects]" in found["extra objects"].fix


def test_a_check_that_crashes_is_a_finding(monkeypatch):
    monkeypatch.setattr(rasterio, "__gdal_version__", property())
    monkeypatch.setattr("geomm.doctor._CHECKS", (("gdal", lambda: 1 / 0), ("gpu", lambda: __import__("no_such"))))
    gdal, gpu = list(examine())[-2:]
    assert (gdal.status, gpu.status) == ("fail", "note")
    assert "ZeroDivisionError" in gdal.text


@pytest.mark.parametrize("number", range(len(selftest.STAGES)))
def test_a_stage_that_fails_names_a_fix_and_ends_the_test(number, monkeypatch):
    def broken(bench):
        raise OSError("broken")

    stages = [(n, broken if k == number else lambda bench: "fine", f) for k, (n, _, f) in enumerate(selftest.STAGES)]
    monkeypatch.setattr(selftest, "STAGES", tuple(stages))
    found = list(self_test())
    assert [f.status for f in found] == ["ok"] * number + ["fail"]
    assert found[-1].fix == selftest.STAGES[number][2]


def test_wrong_numbers_are_seen(monkeypatch):
    monkeypatch.setattr(selftest, "K2", 1300.0)
    last = list(self_test())[-1]
    assert (last.name, last.status) == ("test: cube", "fail")
    assert "K off" in last.text


def test_the_self_test_works_without_torch(monkeypatch):
    monkeypatch.setattr(selftest, "find_spec", lambda name: None)
    found = {f.name: f for f in self_test()}
    assert "left out" in found["test: model"].text
    assert found["test: map"].status == "ok"


def test_the_command_can_leave_the_self_test_out():
    shown = CliRunner().invoke(cli.app, ["doctor", "--without-test"])
    assert shown.exit_code == 0
    assert "test: map" not in shown.output
    assert "proj" in shown.output
