"""Archives: units appear whole and once, whatever stops their publisher; the catalog lists what is there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pystac
import pytest
from archives import item_of, stage, tree
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import geomm
from geomm.archive import STAGING, Manifest, folder, month_of, objects, open_target, update_listing
from geomm.archive.folder import FolderTarget
from geomm.errors import CatalogError, ConfigError, NondeterminismError, OutputError, TargetUnavailableError

PLACE = "maps/2024-06/scene-1a2b"
CALLS = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir", "open")


@pytest.fixture(params=["folder", "memory"])
def target(request, tmp_path):
    return open_target(tmp_path / "archive" if request.param == "folder" else "memory://")


@pytest.fixture
def work(tmp_path):
    """Folder for staging, on the file system of the archive."""
    (tmp_path / "archive" / STAGING).mkdir(parents=True)
    return tmp_path / "archive" / STAGING


def published(target, work, place=PLACE, **about):
    staged, manifest = stage(work, **about)
    assert target.publish(staged, place, manifest)
    return manifest


# one unit -------------------------------------------------------------------------------------------------------------


def test_a_unit_is_published_once(target, work):
    staged, manifest = stage(work)
    content = tree(staged)
    assert target.check(PLACE, manifest, deep=False)
    assert target.publish(staged, PLACE, manifest) is True
    assert not staged.exists()
    assert {name: target.read(f"{PLACE}/{name}") for name in content} == content
    assert target.check(PLACE, manifest, deep=True) == target.check(PLACE, manifest, deep=False) == []
    assert target.publish(staged, PLACE, manifest) is False  # nobody noted that it was done
    again, same = stage(work)
    (again / "class.tif").unlink()  # killed while it removed what is not needed
    assert same == manifest
    assert target.publish(again, PLACE, same) is False
    assert not again.exists()
    assert list(target.places("")) == list(target.places("maps")) == [f"{PLACE}/scene.json"]
    assert list(target.places("map")) == list(target.places("maps/2024-07")) == []
    target.remove(PLACE)
    target.remove(PLACE)
    assert list(target.places("")) == []
    assert target.read(f"{PLACE}/class.tif") is None
    assert target.read(PLACE) is None


@pytest.mark.parametrize("about", [{"version": 1}, {"size": 999}, {"when": "2024-06-16T00:00:00Z"}, {"name": "other"}])
def test_a_finished_unit_is_never_replaced(target, work, about):
    manifest = published(target, work)
    staged, other = stage(work, **about)
    with pytest.raises(NondeterminismError, match=r"the same unit gave other bytes.*E602") as caught:
        target.publish(staged, PLACE, other)
    assert not caught.value.transient
    assert target.check(PLACE, manifest, deep=True) == []
    assert other.problems(staged) == []


def test_what_a_killed_publisher_left_is_replaced(target, work, tmp_path):
    manifest = published(target, work, version=1)
    if isinstance(target, FolderTarget):
        (tmp_path / "archive" / PLACE / manifest.item).unlink()
    else:
        import obstore

        obstore.delete(target.store, f"{PLACE}/{manifest.item}")
    assert list(target.places("")) == []
    assert [line.partition(": ")[2] for line in target.check(PLACE, manifest, deep=True)] == ["missing"]
    new = published(target, work, version=2)
    assert target.check(PLACE, new, deep=True) == []


def test_damage_is_found(tmp_path, work):
    target = open_target(tmp_path / "archive")
    manifest = published(target, work)
    path = tmp_path / "archive" / PLACE / "class.tif"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    assert target.check(PLACE, manifest, deep=False) == []
    assert target.check(PLACE, manifest, deep=True) == [f"{path}: its content has changed"]
    staged, same = stage(work)
    with pytest.raises(NondeterminismError, match="if the published unit is damaged, remove it"):
        target.publish(staged, PLACE, same)
    target.remove(PLACE)
    assert target.publish(staged, PLACE, same)


def _flip(staged):
    (staged / "class.tif").write_bytes(b"\1" + (staged / "class.tif").read_bytes()[1:])


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (_flip, "class.tif: its content has changed"),
        (lambda staged: (staged / "class.tif").write_bytes(b""), "0 bytes, not 1000"),
        (lambda staged: (staged / "class.tif").unlink(), "class.tif: missing"),
        (lambda staged: (staged / "class.tif.aux.xml").touch(), "class.tif.aux.xml: not in the manifest"),
        (lambda staged: (staged / "link").symlink_to(staged / "class.tif"), "link: a link, not a file"),
    ],
)
def test_a_staged_unit_that_changed_is_not_published(target, work, harm, why):
    staged, manifest = stage(work)
    harm(staged)
    with pytest.raises(OutputError, match=f"not what was made.*{why}"):
        target.publish(staged, PLACE, manifest)
    assert list(target.places("")) == []
    assert target.read(f"{PLACE}/class.tif") is None


def test_a_unit_without_files_is_told_of(tmp_path, work):
    staged, manifest = stage(work)
    shutil.rmtree(staged)
    with pytest.raises(OutputError, match=r"the staged unit is not there.*scene: missing"):
        open_target(tmp_path / "archive").publish(staged, PLACE, manifest)


@pytest.mark.parametrize(
    "name", ["", "/etc", "../x", "a/../../x", "a//b", "a/./b", ".geomm/x", "a\\b", "a/\n", "a/ b", "a/"]
)
def test_names_that_lead_out_are_refused(target, work, name):
    staged, manifest = stage(work)
    acts = [
        lambda: target.publish(staged, name, manifest),
        lambda: target.read(name),
        lambda: target.replace(name, b""),
        lambda: target.check(name, manifest, deep=False),
        lambda: target.remove(name),
    ]
    for act in acts + ([lambda: list(target.places(name))] if name else []):
        with pytest.raises(OutputError, match="leads out of the archive"):
            act()


def test_targets_are_opened_by_address(tmp_path):
    assert open_target(tmp_path).root == str(tmp_path)
    assert open_target("memory://").root == "memory://"
    with pytest.raises(ConfigError, match=r"ftp://x.*s3://"):
        open_target("ftp://x")


def test_small_files_are_replaced_and_changed(target):
    assert target.read("a/b.json") is None
    target.replace("a/b.json", b"1")
    assert target.read("a/b.json") == b"1"
    target.update("a/b.json", lambda content: content + b"2")
    target.update("c.json", lambda content: b"" if content is None else b"never")
    assert (target.read("a/b.json"), target.read("c.json")) == (b"12", b"")
    target.remove("a/b.json")
    assert target.read("a/b.json") is None


def test_publishing_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ImportError, match=r"geomm\[objects\]"):
        open_target("s3://bucket")


# at the same time -----------------------------------------------------------------------------------------------------


def together(*acts):
    """Run in threads, as much at the same time as can be; return results and errors."""
    gate, results = threading.Barrier(len(acts)), [None] * len(acts)

    def run(k):
        gate.wait()
        try:
            results[k] = acts[k]()
        except geomm.errors.GeommError as error:
            results[k] = error

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_publishers_of_one_unit_publish_it_once(target, work):
    for round_ in range(10):
        units = [stage(work / f"{round_}-{k}") for k in range(4)]
        place = f"maps/2024-06/{round_}"
        results = together(*[lambda u=u, place=place: target.publish(u[0], place, u[1]) for u in units])
        assert sorted(results) == [False, False, False, True]
        assert target.check(place, units[0][1], deep=True) == []


def test_publishers_of_other_bytes_are_told(tmp_path, work):
    target = open_target(tmp_path / "archive")
    for round_ in range(10):
        units = [stage(work / f"{round_}-{k}", version=k) for k in range(3)]
        place = f"maps/2024-06/{round_}"
        results = together(*[lambda u=u, place=place: target.publish(u[0], place, u[1]) for u in units])
        assert sorted(type(r).__name__ for r in results) == ["NondeterminismError"] * 2 + ["bool"]
        assert target.check(place, units[results.index(True)][1], deep=True) == []


PUBLISH = """
import sys, time
from pathlib import Path
from geomm.archive import Manifest, open_target
staged, gate = Path(sys.argv[1]), Path(sys.argv[2])
manifest, target = Manifest.of(staged, "scene.json"), open_target(sys.argv[3])
while not gate.exists():
    time.sleep(0.001)
print(target.publish(staged, "maps/2024-06/scene-1a2b", manifest))
"""


def test_processes_publish_once(tmp_path, work):
    units = [stage(work / str(k))[0] for k in range(4)]
    gate = tmp_path / "gate"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISH, str(u), str(gate), str(tmp_path / "archive")],
            stdout=subprocess.PIPE, text=True,
        )
        for u in units
    ]  # fmt: skip
    gate.touch()
    assert sorted(run.communicate()[0].strip() for run in runs) == ["False"] * 3 + ["True"]


def test_writers_of_one_file_lose_nothing(target):
    def add(k):
        for n in range(5):
            target.update("catalog.json", lambda content, n=n: (content or b"") + f"{k}-{n} ".encode())

    assert together(*[lambda k=k: add(k) for k in range(8)]) == [None] * 8
    assert sorted(target.read("catalog.json").decode().split()) == sorted(
        f"{k}-{n}" for k in range(8) for n in range(5)
    )


def test_a_lock_that_is_never_freed(tmp_path, work, monkeypatch):
    from filelock import FileLock

    monkeypatch.setattr(folder, "PATIENCE", 0.05)
    staged, manifest = stage(work)
    target = open_target(tmp_path / "archive")
    with FileLock(work / "lock"), pytest.raises(TargetUnavailableError, match="let go for 0.05 s") as caught:
        target.publish(staged, PLACE, manifest)
    assert caught.value.transient
    assert target.publish(staged, PLACE, manifest)


# whatever happens -----------------------------------------------------------------------------------------------------


def counted(monkeypatch, stop_at, act, error=errno.EIO):
    """Let one of the calls of ``os`` that ``act`` makes fail; return all of them, and what came of it."""
    calls = []

    def wrap(name, function):
        def call(*args, **kwargs):
            calls.append((name, str(args[0])))
            if len(calls) - 1 == stop_at:
                raise OSError(error, os.strerror(error), str(args[0]))
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrap(name, getattr(os, name)))
        try:
            result = act()
        except OutputError as failure:
            result = failure
    return calls, result


@pytest.mark.parametrize("leftover", [False, True])
@pytest.mark.parametrize("anew", [False, True])
def test_publishing_that_fails_anywhere_goes_on(tmp_path, monkeypatch, leftover, anew):
    """Every call to the system fails once: no item or a whole unit is there, and the same call does the rest."""
    steps, failed = 0, 0
    while True:
        root = tmp_path / str(steps)
        target = open_target(root)
        if leftover:
            (root / PLACE).mkdir(parents=True)
            (root / PLACE / "class.tif").write_bytes(b"half")
        staged, manifest = stage(root / STAGING)
        calls, result = counted(monkeypatch, steps, lambda t=target, s=staged, m=manifest: t.publish(s, PLACE, m))
        there = (root / PLACE / manifest.item).exists()
        assert not there or target.check(PLACE, manifest, deep=True) == [], calls[-1]
        assert there or isinstance(result, OutputError)
        if isinstance(result, OutputError):
            failed += 1
            assert "EIO: Input/output error" in str(result)
            if anew:
                shutil.rmtree(staged, ignore_errors=True)
                staged, manifest = stage(root / STAGING)
            assert target.publish(staged, PLACE, manifest) is not there
        assert target.check(PLACE, manifest, deep=True) == []
        assert not staged.exists()
        assert sorted(p.name for p in (root / PLACE).rglob("*")) == ["class.tif", "more", "notes.txt", "scene.json"]
        left = {p.name.partition("-")[0] for p in (root / STAGING).iterdir()}
        assert left <= {"lock", "trash"}
        if steps >= len(calls):
            break
        steps += 1
    assert failed > 20


def test_a_stopped_publisher_that_was_overtaken(tmp_path, work, monkeypatch):
    """Stopped before the last step; another publishes the same; the first one, called again, leaves nothing behind."""
    target = open_target(tmp_path / "archive")
    staged, manifest = stage(work / "first")
    original = os.replace

    def replace(source, to):
        if str(to).endswith(f"{PLACE}/scene.json"):
            raise OSError(errno.EIO, "no", str(to))
        return original(source, to)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(OutputError, match="EIO: no"):
            target.publish(staged, PLACE, manifest)
    assert sorted(p.name for p in (work / "first").iterdir()) == ["scene.item"]
    published(target, work / "second")
    assert target.publish(staged, PLACE, manifest) is False
    assert sorted(p.name for p in (work / "first").iterdir()) == []
    assert target.check(PLACE, manifest, deep=True) == []


KILLS = """
import os, shutil, sys
sys.path.insert(0, sys.argv[2])
from archives import stage
from geomm.archive import STAGING, open_target, update_listing
import json
from pathlib import Path
PLACE, CALLS = "maps/2024-06/scene-1a2b", ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir", "open")


def die_at(step):
    count = 0
    def wrap(function):
        def call(*args, **kwargs):
            nonlocal count
            if count == step:
                os._exit(9)
            count += 1
            return function(*args, **kwargs)
        return call
    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def killed(step, act):
    child = os.fork()
    if not child:
        die_at(step)
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


seen = [0, 0]
step, alive = 0, False
while not alive:
    root = Path(sys.argv[1], str(step))
    target = open_target(root)
    staged, manifest = stage(root / STAGING)
    alive = not killed(step, lambda: target.publish(staged, PLACE, manifest))
    there = (root / PLACE / manifest.item).exists()
    seen[there] += 1
    assert not there or target.check(PLACE, manifest, deep=True) == [], step
    if step % 2 and staged.exists():
        shutil.rmtree(staged)
    if step % 2:
        stage(root / STAGING)
    assert target.publish(staged, PLACE, manifest) is not there or alive, step
    assert target.check(PLACE, manifest, deep=True) == [], step

    item = json.loads((root / PLACE / manifest.item).read_bytes())
    target.replace("catalog.json", b"old")
    killed(step, lambda: target.replace("catalog.json", b"new"))
    assert target.read("catalog.json") in (b"old", b"new"), step
    target.remove("catalog.json")
    killed(step, lambda: target.remove(PLACE))
    assert not (root / PLACE).exists() or target.check(PLACE, manifest, deep=True) == [], step
    step += 1
print(*seen)
"""


def test_publishing_that_is_killed_anywhere_goes_on(tmp_path):
    """The same with a process that dies at every call, before it is made."""
    done = subprocess.run(
        [sys.executable, "-c", KILLS, str(tmp_path), str(Path(__file__).parent)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert before > 20
    assert after >= 2


def test_everything_is_on_the_disk_before_it_is_said_to_be(tmp_path, monkeypatch, work):
    """The order of calls: files and folders are flushed before the rename, names after it, the item last."""
    staged, manifest = stage(work)
    target = open_target(tmp_path / "archive")
    names = {}  # of open files
    original = os.open

    def opened(path, *args, **kwargs):
        handle = original(path, *args, **kwargs)
        names[handle] = str(path)
        return handle

    trace = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        for move in (os.rename, os.replace):
            patch.setattr(os, move.__name__, lambda a, b, f=move: (trace.append(("move", str(a), str(b))), f(a, b)))
        patch.setattr(os, "fsync", lambda h, f=os.fsync: (trace.append(("flush", names[h])), f(h)))
        target.publish(staged, PLACE, manifest)
    moves = [k for k, entry in enumerate(trace) if entry[0] == "move"]
    final, item = tmp_path / "archive" / PLACE, f"{staged}.item"
    assert [trace[k][1:] for k in moves] == [
        (str(staged / "scene.json"), item), (str(staged), str(final)), (item, str(final / "scene.json")),
    ]  # fmt: skip
    flushed = {entry[1] for entry in trace[: moves[0]]}
    everything = {str(staged), *map(str, staged.rglob("*"))} | {str(staged / f.name) for f in manifest.files}
    assert flushed >= everything | {str(staged / "more")}
    above = {str(tmp_path / "archive"), str(tmp_path / "archive" / "maps")}
    assert above <= {entry[1] for entry in trace[: moves[1]] if entry[0] == "flush"}
    assert trace[moves[1] + 1 : moves[2]] == [("flush", str(final.parent))]
    assert trace[moves[2] + 1 :] == [("flush", str(final))]


def test_small_files_are_on_the_disk_before_they_are_there(tmp_path, monkeypatch):
    target, trace = open_target(tmp_path), []
    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, lambda *a, f=getattr(os, name), n=name: (trace.append(n), f(*a)))  # noqa: B008
        target.replace("catalog.json", b"1")
    assert trace == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EACCES, "the right to write"),
        (errno.EROFS, "mount it writable"),
        (errno.EXDEV, "below its .geomm"),
    ],
)
def test_what_the_system_says_is_passed_on(tmp_path, work, monkeypatch, number, fix):
    target = open_target(tmp_path / "archive")
    staged, manifest = stage(work)
    acts = {
        str(tmp_path / "archive" / "maps"): lambda: target.publish(staged, PLACE, manifest),
        str(tmp_path / "archive" / "x"): lambda: target.replace("x/catalog.json", b"1"),
    }
    for path, act in acts.items():
        calls, _ = counted(monkeypatch, -1, lambda path=path: Path(path).mkdir())  # the call that is to fail
        Path(path).rmdir()
        _, result = counted(monkeypatch, _index(monkeypatch, act, calls[0], tmp_path), act, number)
        assert isinstance(result, OutputError)
        text = f"{errno.errorcode[number]}: {os.strerror(number)}"
        assert (result.why, result.where, result.transient) == (text, path, False)
        assert fix in result.fix
    assert target.publish(staged, PLACE, manifest)


def _index(monkeypatch, act, call, tmp_path):
    """Return which call of an act makes a folder, by trying it on a copy of everything."""
    kept = tmp_path.with_name(f"{tmp_path.name}-kept")
    shutil.copytree(tmp_path, kept)
    calls, _ = counted(monkeypatch, -1, act)
    shutil.rmtree(tmp_path)
    kept.rename(tmp_path)
    return calls.index(call)


FULL = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from archives import stage
from geomm.archive import STAGING, open_target
from geomm.errors import OutputError
root = Path(sys.argv[1])
target = open_target(root)
staged, manifest = stage(root / STAGING, size=300_000)
target.replace("catalog.json", b"old")
ballast = root / "ballast"
try:
    ballast.write_bytes(bytes(10_000_000))
except OSError:
    pass
try:
    target.replace("catalog.json", bytes(100_000))
except OutputError as error:
    print(error)
assert target.read("catalog.json") == b"old"
assert [p.name for p in (root / STAGING).iterdir() if p.name.startswith("write")] == []
try:
    target.publish(staged, "maps/2024-06/scene", manifest)
except OutputError as error:
    print(error)
ballast.unlink()
if staged.exists():
    target.publish(staged, "maps/2024-06/scene", manifest)
assert target.check("maps/2024-06/scene", manifest, deep=True) == []
"""


def test_a_full_disk(tmp_path):
    """A real one: a file system of one megabyte in memory."""
    inner = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$0" -c "$1" {tmp_path} "$2"'
    run = ["unshare", "-rm", "sh", "-c", inner, sys.executable, FULL, str(Path(__file__).parent)]
    if shutil.which("unshare") is None or subprocess.run([*run[:4], f"mount -t tmpfs none {tmp_path}"],
                                                         capture_output=True, check=False).returncode:  # fmt: skip
        pytest.skip("no file system can be mounted here")
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "ENOSPC: No space left on device" in done.stdout


# the catalog ----------------------------------------------------------------------------------------------------------


def fill(target, work, names, when="2024-06-15T10:00:00Z", stage_name="maps", **about):
    """Publish units and return them as a month's list."""
    listed = []
    for k, name in enumerate(names):
        staged, manifest = stage(work, name, when=when, west=k * 2.0, **about)
        place = f"{stage_name}/{when[:7]}/{name}"
        target.publish(staged, place, manifest)
        path = f"{place}/{manifest.item}"
        listed.append((path, json.loads(target.read(path))))
    return listed


def listed_in(target):
    """Follow the links of a catalog by hand and return the paths of its items."""
    found = []

    def follow(path):
        record = json.loads(target.read(path))
        base = os.path.dirname(path)
        for link in record.get("links", ()):
            assert "://" not in link["href"]
            assert not link["href"].startswith("/")
            to = os.path.normpath(os.path.join(base, link["href"]))
            assert target.read(to) is not None, f"{path} leads to {to}"
            if link["rel"] == "child":
                follow(to)
            elif link["rel"] == "item":
                found.append(to)

    if target.read("catalog.json") is not None:
        follow("catalog.json")
    return sorted(found)


def test_the_catalog_is_read_by_others_and_can_be_moved(tmp_path, work):
    target = open_target(tmp_path / "archive")
    june = fill(target, work, ["a", "b", "c"])
    july = fill(target, work, ["d"], "2024-07-01T00:00:00Z")
    update_listing(target, "Clouds of 2024", {("maps", "2024-06"): june, ("maps", "2024-07"): july})
    before = tree(tmp_path / "archive")
    update_listing(target, "Clouds of 2024", {("maps", "2024-06"): june[::-1]})
    assert tree(tmp_path / "archive") == before
    update_listing(target, "Clouds of 2024", {("maps", "2024-07"): july, ("maps", "2024-06"): june})
    assert tree(tmp_path / "archive") == before

    moved = tmp_path / "else where"
    shutil.copytree(tmp_path / "archive", moved, ignore=shutil.ignore_patterns(STAGING))
    shutil.rmtree(tmp_path / "archive")
    root = pystac.Catalog.from_file(str(moved / "catalog.json"))
    assert root.title == "Clouds of 2024"
    assert [c.id for c in root.get_children()] == ["maps-2024-06", "maps-2024-07"]
    items = {i.id: i for i in root.get_items(recursive=True)}
    assert sorted(items) == ["a", "b", "c", "d"]
    assert all(Path(i.get_assets()["class"].get_absolute_href()).is_file() for i in items.values())
    assert items["a"].get_parent().id == "maps-2024-06"
    assert {i.id for i in geomm.open_catalog(moved).items()} == set(items)

    odd = tmp_path / "no. #1?"
    moved.rename(odd)
    for path, number in ((odd / "maps" / "parquet", 4), (odd / "maps" / "parquet" / "2024-06.parquet", 3)):
        found = geomm.open_catalog(path).items()
        assert len(found) == number
        for item in found:
            original = items[item.id]
            month = f"{original.datetime:%Y-%m}"
            assert item.assets["class"].href == str(odd / "maps" / month / item.id / "class.tif")
            assert (item.bbox, item.datetime) == (original.bbox, original.datetime)
            assert json.loads(json.dumps(item.geometry)) == original.geometry
            assert item.properties["geomm:version"] == 0


def test_months_that_are_not_named_stay_and_empty_ones_go(target, work):
    months = {
        ("maps", "2024-06"): fill(target, work, ["a", "b"]),
        ("masks", "2024-06"): fill(target, work, ["c"], stage_name="masks"),
        ("maps", "2024-07"): fill(target, work, ["d"], "2024-07-01T00:00:00Z"),
    }
    update_listing(target, "t", {("maps", "2024-06"): months["maps", "2024-06"][:1]})
    update_listing(target, "t", {k: v for k, v in months.items() if k != ("maps", "2024-06")})
    assert listed_in(target) == ["maps/2024-06/a/a.json", "maps/2024-07/d/d.json", "masks/2024-06/c/c.json"]
    update_listing(target, "t", {("maps", "2024-07"): [], ("never", "2020-01"): []})
    assert listed_in(target) == ["maps/2024-06/a/a.json", "masks/2024-06/c/c.json"]
    assert target.read("maps/parquet/2024-07.parquet") is None
    assert target.read("maps/2024-07/catalog.json") is None
    assert target.read("maps/2024-07/d/d.json") is not None
    assert sorted(target.places("")) == sorted(path for month in months.values() for path, _ in month)


def test_items_of_odd_kinds_are_listed(tmp_path, work):
    """Units without data, hrefs elsewhere, other properties."""
    target = open_target(tmp_path / "archive")
    bare, far, rich = item_of("bare"), item_of("far", west=12.0), item_of("rich", west=20.0)
    bare["assets"] = {}
    far["assets"]["class"]["href"] = "https://example.org/class.tif"
    far["assets"]["class"]["nodata"] = "nan"
    rich["assets"]["class"] |= {"nodata": 255, "bands": [{"name": "class"}]}
    rich["properties"] |= {"geomm:asked": {}, "proj:transform": [10, 0, 5e5, 0, -10.0, 5e6]}
    listed = [(f"maps/2024-06/{i['id']}/{i['id']}.json", i) for i in (bare, far, rich)]
    update_listing(target, "t", {("maps", "2024-06"): listed, ("skipped", "2024-06"): listed[:1]})
    found = {i.id: i for i in geomm.open_catalog(tmp_path / "archive/maps/parquet/2024-06.parquet").items()}
    assert found["bare"].assets == {}
    assert found["far"].assets["class"].href == "https://example.org/class.tif"
    assert found["rich"].assets["class"].href == str(tmp_path / "archive/maps/2024-06/rich/class.tif")
    assert [i.id for i in geomm.open_catalog(tmp_path / "archive/skipped/parquet/2024-06.parquet").items()] == ["bare"]


def test_a_foreign_catalog_is_not_overwritten(target):
    for content in (b"no json", b"[]", b'{"type": "Catalog"}'):
        target.replace("catalog.json", content)
        with pytest.raises(CatalogError, match="cannot be read"):
            update_listing(target, "t", {("maps", "2024-06"): []})
        assert target.read("catalog.json") == content


def test_a_listing_that_is_stopped_leads_nowhere_wrong(target, work, monkeypatch):
    june, july = fill(target, work, ["a", "b"]), fill(target, work, ["c"], "2024-07-01T00:00:00Z")
    update_listing(target, "t", {("maps", "2024-06"): june[:1]})
    wanted = {("maps", "2024-06"): june, ("maps", "2024-07"): july, ("maps", "2024-05"): []}
    original = type(target).update
    for stop in range(6):
        count = 0

        def update(self, path, change, stop=stop):
            nonlocal count
            count += 1
            if count > stop:
                raise OutputError("stopped")
            original(self, path, change)

        with monkeypatch.context() as patch:
            patch.setattr(type(target), "update", update)
            try:
                update_listing(target, "t", wanted)
            except OutputError:
                assert stop < 5
        assert listed_in(target)[0] == "maps/2024-06/a/a.json"
    assert listed_in(target) == [path for path, _ in (*june, *july)]


def test_writers_of_several_months_lose_none(target):
    def month(k):
        item = item_of(f"i{k}", f"2024-{k:02}-05T00:00:00Z")
        update_listing(target, "t", {("maps", month_of(item)): [(f"maps/2024-{k:02}/i{k}/i{k}.json", item)]})

    assert together(*[lambda k=k: month(k) for k in range(1, 9)]) == [None] * 8
    assert len(json.loads(target.read("catalog.json"))["links"]) == 9


def test_a_writer_in_between_is_not_lost(monkeypatch):
    """Another month is listed after the root was read, before it is written."""
    target, original = open_target("memory://"), objects.ObjectTarget._load
    listed = [("a/2024-06/i/i.json", item_of("i"))]

    def load(self, path):
        found = original(self, path)
        if path == "catalog.json":
            patch.undo()
            update_listing(target, "t", {("b", "2024-06"): listed})
        return found

    with monkeypatch.context() as patch:
        patch.setattr(objects.ObjectTarget, "_load", load)
        update_listing(target, "t", {("a", "2024-06"): listed})
    hrefs = [link["href"] for link in json.loads(target.read("catalog.json"))["links"]]
    assert hrefs == ["./catalog.json", "./a/2024-06/catalog.json", "./b/2024-06/catalog.json"]


def test_months_are_those_of_utc():
    assert month_of(item_of("a", "2024-07-01T00:30:00+02:00")) == "2024-06"
    span = {"properties": {"datetime": None, "start_datetime": "2024-02-29T23:00:00Z"}}
    assert month_of(span) == "2024-02"


# against a dictionary -------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "d"])
STAGES = st.sampled_from(["maps", "masks"])
MONTHS = st.sampled_from(["2024-06", "2024-07"])


class ArchiveMachine(RuleBasedStateMachine):
    """An archive does what a dictionary of units and one of lists do."""

    address = "memory://"

    def __init__(self):
        super().__init__()
        self.work = Path(tempfile.mkdtemp())
        self.target = open_target(self.address or self.work / "archive")
        self.units, self.lists, self.count = {}, {}, 0

    def teardown(self):
        shutil.rmtree(self.work)

    @rule(stage_name=STAGES, month=MONTHS, name=NAMES, version=st.integers(0, 1))
    def publish(self, stage_name, month, name, version):
        self.count += 1
        base = self.work / "archive" / STAGING / str(self.count)
        staged, manifest = stage(base, name, version=version, when=f"{month}-10T00:00:00Z", size=10)
        place = f"{stage_name}/{month}/{name}"
        if place in self.units and self.units[place] != manifest:
            with pytest.raises(NondeterminismError):
                self.target.publish(staged, place, manifest)
        else:
            assert self.target.publish(staged, place, manifest) is (place not in self.units)
            self.units[place] = manifest

    @rule(stage_name=STAGES, month=MONTHS, name=NAMES)
    def remove(self, stage_name, month, name):
        place = f"{stage_name}/{month}/{name}"
        self.target.remove(place)
        self.units.pop(place, None)

    @rule(stage_name=STAGES, month=MONTHS)
    def list_month(self, stage_name, month):
        places = [p for p in self.units if p.startswith(f"{stage_name}/{month}/")]
        paths = [f"{p}/{self.units[p].item}" for p in places]
        items = [(path, json.loads(self.target.read(path))) for path in paths]
        assert {month_of(item) for _, item in items} <= {month}
        update_listing(self.target, "t", {(stage_name, month): items})
        self.lists[stage_name, month] = sorted(paths)

    @invariant()
    def the_same_is_there(self):
        assert sorted(self.target.places("")) == sorted(f"{p}/{m.item}" for p, m in self.units.items())
        for place, manifest in self.units.items():
            assert self.target.check(place, manifest, deep=True) == []
        root = self.target.read("catalog.json")
        links = json.loads(root)["links"] if root else []
        found = {}
        for link in links:
            if link["rel"] == "child":
                path = os.path.normpath(link["href"])
                stage_name, month, _ = path.split("/")
                assert self.target.read(f"{stage_name}/parquet/{month}.parquet")[:4] == b"PAR1"
                found[stage_name, month] = sorted(
                    os.path.normpath(f"{stage_name}/{month}/{entry['href']}")
                    for entry in json.loads(self.target.read(path))["links"]
                    if entry["rel"] == "item"
                )
        assert found == {key: paths for key, paths in self.lists.items() if paths}


class FolderMachine(ArchiveMachine):
    """The same with a folder."""

    address = ""


EXAMPLES = settings(max_examples=settings.default.max_examples // 5, stateful_step_count=30)
TestMemoryMachine = ArchiveMachine.TestCase
TestMemoryMachine.settings = EXAMPLES
TestFolderMachine = FolderMachine.TestCase
TestFolderMachine.settings = EXAMPLES


def test_manifests_survive_json():
    manifest = Manifest((), "a.json")
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest
