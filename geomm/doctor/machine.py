"""The machine: GPU, threads, memory, disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from geomm.doctor.finding import Finding

GIB = 2**30
"""Bytes."""
ENOUGH_DISK = 5.0
"""GiB below which a map of a whole scene may not find room."""
ENOUGH_MEMORY = 2.0
"""GiB below which training and prediction may be killed."""
MEMORY = Path("/proc/meminfo")
"""Where Linux says how much memory there is."""
CGROUP = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much of it a container may have."""


def check_gpu() -> Finding:
    """Check that torch computes on the GPU, where there is one; else say what is missing."""
    import torch

    if torch.cuda.is_available():
        two = float((torch.ones(2, device="cuda") @ torch.ones(2, device="cuda")).cpu())
        name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / GIB
        if two != 2.0:
            return Finding("gpu", "fail", f"{name}: 1 + 1 is {two}", "install the driver again, then torch")
        return Finding("gpu", "ok", f"{name}, {memory:.0f} GiB; use it with --device cuda")
    driver, built = shutil.which("nvidia-smi") is not None, torch.version.cuda
    if not driver:
        text = "no NVIDIA driver here; models run on the CPU"
        return Finding("gpu", "note", text, "nothing, unless the machine has a GPU: then install its driver")
    if built is None:
        text = f"a driver is here, but torch {torch.__version__} was built without CUDA"
        return Finding("gpu", "note", text, "install a torch with CUDA, as pytorch.org/get-started says")
    text = f"a driver is here, but torch, built for CUDA {built}, cannot use it"
    return Finding(
        "gpu", "note", text, "compare nvidia-smi with that version; update the driver, or unset CUDA_VISIBLE_DEVICES"
    )


def check_threads() -> Finding:
    """Compare the settings of threads with the processors that there are."""
    processors = len(os.sched_getaffinity(0))
    given = os.environ.get("OMP_NUM_THREADS", "")
    text = f"{processors} processors, OMP_NUM_THREADS {given or 'not set'}"
    if given and not given.isdigit():
        return Finding("threads", "note", f"{text}, which is no number", "unset OMP_NUM_THREADS")
    if given and int(given) > processors:
        fix = f"export OMP_NUM_THREADS={processors}"
        return Finding("threads", "note", f"{text}: more than there are, which slows all down", fix)
    return Finding("threads", "ok", text)


def check_memory() -> Finding:
    """Look how much memory is free, and how much a container may have."""
    lines = (
        dict(line.split(":", 1) for line in MEMORY.read_text().splitlines() if ":" in line) if MEMORY.is_file() else {}
    )
    if "MemAvailable" not in lines:
        return Finding("memory", "note", "this system does not say", "look with its own tools: 2 GiB should be free")
    free = int(lines["MemAvailable"].split()[0]) * 1024 / GIB
    limit = CGROUP.read_text().strip() if CGROUP.is_file() else "max"
    most = f", of which a container may have {int(limit) / GIB:.1f}" if limit.isdigit() else ""
    if limit.isdigit():
        free = min(free, int(limit) / GIB)
    if free < ENOUGH_MEMORY:
        fix = "end other programs, or map with smaller chips: geomm predict ... --size 128 --threads 1"
        return Finding("memory", "note", f"{free:.1f} GiB free{most}", fix)
    return Finding("memory", "ok", f"{free:.1f} GiB free{most}")


def check_disk() -> Finding:
    """Look how much room there is in the current folder."""
    return _room("disk here", Path.cwd(), "free some, or write elsewhere with --out")


def check_temporary() -> Finding:
    """Look how much room there is for temporary files, and whether they can be written."""
    folder = Path(tempfile.gettempdir())
    fix = "free some, or name another folder: export TMPDIR=/path/with/room"
    trouble = _unwritable(folder)
    if trouble:
        return Finding("temporary files", "fail", f"{folder}: {trouble}", fix)
    return _room("temporary files", folder, fix)


def check_folder() -> Finding:
    """Look whether the current folder can be written to."""
    trouble = _unwritable(Path.cwd())
    if trouble:
        fix = "go to a folder of yours, or write elsewhere with --out"
        return Finding("folder here", "note", f"{Path.cwd()} cannot be written to: {trouble}", fix)
    return Finding("folder here", "ok", f"{Path.cwd()} can be written to")


def _room(name: str, folder: Path, fix: str) -> Finding:
    free = shutil.disk_usage(folder).free / GIB
    scarce = free < ENOUGH_DISK
    return Finding(name, "note" if scarce else "ok", f"{free:.1f} GiB free in {folder}", fix if scarce else "")


def _unwritable(folder: Path) -> str:
    """Return why no file can be made in a folder; empty where one can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"geomm")
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return ""
