"""Files and folders appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from geomm.whole import whole_file, whole_folder, write_whole


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def fail(path):
    path.write_bytes(b"half")
    raise OSError(28, "full")


def test_a_file_takes_its_place_at_the_end(tmp_path):
    target = tmp_path / "new" / "a.gpkg"
    write_whole(target, b"first")
    with whole_file(target, suffix=".gpkg") as aside:
        assert (aside.parent, aside.suffix) == (target.parent, ".gpkg")
        aside.write_bytes(b"second")
        assert target.read_bytes() == b"first"
    assert target.read_bytes() == b"second"
    assert names(tmp_path) == ["new", "new/a.gpkg"]


def test_what_fails_leaves_the_older_one(tmp_path):
    target = tmp_path / "a"
    write_whole(target, b"first")
    with pytest.raises(OSError, match="full"), whole_file(target) as aside:
        fail(aside)
    with pytest.raises(FileNotFoundError), whole_file(target):
        pass
    folder = tmp_path / "f"
    with whole_folder(folder) as aside:
        (aside / "x").touch()
    with pytest.raises(OSError, match="full"), whole_folder(folder) as aside:
        fail(aside / "y")
    assert names(tmp_path) == ["a", "f", "f/x"]
    assert target.read_bytes() == b"first"


def test_folders_that_cannot_be_synced_are_written_to(tmp_path, monkeypatch):
    really = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        really(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(tmp_path / "a", b"first")
    assert (tmp_path / "a").read_bytes() == b"first"
    monkeypatch.setattr(os, "fsync", lambda _: fail(tmp_path / "b"))
    with pytest.raises(OSError, match="full"):
        write_whole(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_threads_write_one_file(tmp_path):
    target, barrier = tmp_path / "a", threading.Barrier(8)
    texts = [str(k).encode() * 10000 for k in range(8)]

    def write(text):
        barrier.wait()
        for _ in range(5):
            write_whole(target, text)

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() in texts
    assert names(tmp_path) == ["a"]


def test_a_folder_removes_what_killed_processes_left(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for number in (gone.pid, os.getppid(), "notes"):
        (tmp_path / f".my [old] f.staging-{number}").mkdir()
    with whole_folder(tmp_path / "my [old] f") as aside:
        (aside / "x").touch()
    kept = [f".my [old] f.staging-{n}" for n in (os.getppid(), "notes")]
    assert names(tmp_path) == sorted([*kept, "my [old] f", "my [old] f/x"])
