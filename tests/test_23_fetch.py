"""Files are fetched whole or not at all, whatever a server does."""

import contextlib
import datetime as dt
import hashlib
import http.server
import pickle
import socket
import struct
import threading
import time

import numpy as np
import pytest
import rasterio
from affine import Affine

from geomm.catalog import GDAL_SETTINGS, BandSource, ReadPolicy, Scene, fetch, fetched_scene, open_source
from geomm.catalog.fetch import FetchSettings
from geomm.cube.read import SourceReader
from geomm.errors import ChecksumError, LimitError, OutputError, ReadError, UnavailableError, UnsafeSourceError

HERE = ReadPolicy(private=True)


class Server(http.server.ThreadingHTTPServer):
    """Answers as its list of behaviours says, one by one, the last one again and again."""

    daemon_threads = True

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.asked, self.behaviours, self.elsewhere = body, [], ["fine"], ""
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *args):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(head=True)

    def do_GET(self):
        self.answer()

    def answer(self, *, head=False):
        mine = self.server
        how = mine.behaviours.pop(0) if len(mine.behaviours) > 1 else mine.behaviours[0]
        mine.asked.append((self.command, self.path, self.headers.get("Range")))
        body, tag = mine.body, '"one"'
        if how.isdigit():
            self.send_response(int(how))
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if how == "redirect":
            self.send_response(302)
            self.send_header("Location", mine.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if how == "silent":
            time.sleep(1.5)
        first, last = 0, len(body) - 1
        wanted = self.headers.get("Range")
        if wanted and how != "whole":
            a, _, b = wanted.removeprefix("bytes=").partition("-")
            first, last = int(a), min(int(b), last) if b else last
        if how == "changed":
            tag, body = '"two"', body[::-1]
        partial = bool(wanted) and how != "whole"
        self.send_response(206 if partial or how == "unasked part" else 200)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Accept-Ranges", "bytes")
        if how != "untagged":
            self.send_header("ETag", tag)
        if partial or how == "unasked part":
            shift = 5 if how == "wrong range" else 0
            self.send_header("Content-Range", f"bytes {first + shift}-{last + shift}/{len(body)}")
        if how == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if head:
            return
        part = body[first : last + 1]
        if how in ("short", "untagged"):
            self.close_connection = True
            part = part[: len(part) // 2]
        if how == "dripping":
            for k in range(0, len(part), 1 + len(part) // 20):
                self.wfile.write(part[k : k + 1 + len(part) // 20])
                time.sleep(0.1)
            return
        self.wfile.write(part)


@pytest.fixture(scope="module")
def raster(tmp_path_factory):
    path = tmp_path_factory.mktemp("raster") / "a.tif"
    values = np.random.default_rng(0).integers(0, 4000, (2, 700, 700), dtype="uint16")
    place = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500000, 0, -10, 5200000)}
    with rasterio.open(path, "w", driver="COG", blocksize=256, count=2, dtype="uint16", height=700, width=700,
                       **place) as file:  # fmt: skip
        file.write(values)
    return path


@pytest.fixture
def server(raster):
    mine = Server(raster.read_bytes())
    yield mine
    mine.shutdown()
    mine.server_close()


def source_of(server, name="a.tif", **fields):
    return BandSource(f"{server.url}{name}", item="s/1", asset="red", **({"policy": HERE} | fields))


def checksum_of(body):
    return "1220" + hashlib.sha256(body).hexdigest()


def only_whole_files(folder, server):
    assert all(p.read_bytes() == server.body for p in folder.iterdir())
    return len(list(folder.iterdir()))


def test_a_file_is_fetched_whole_under_a_safe_name_and_once(server, tmp_path):
    source = source_of(server, checksum=checksum_of(server.body), size=len(server.body))
    path = fetch(source, tmp_path)
    assert path.parent == tmp_path
    assert path.name.startswith("s-1-red-")
    assert path.suffix == ".tif"
    assert path.read_bytes() == server.body
    assert fetch(source, tmp_path) == path
    assert len(server.asked) == 1
    path.write_bytes(b"damaged")
    assert fetch(source, tmp_path).read_bytes() == server.body
    assert only_whole_files(tmp_path, server) == 1


@pytest.mark.parametrize(
    ("behaviours", "error", "wait"),
    [
        (["500"], UnavailableError, 7.0),
        (["503"], UnavailableError, 7.0),
        (["429"], UnavailableError, 7.0),
        (["408"], UnavailableError, 7.0),
        (["404"], ReadError, None),
        (["403"], ReadError, None),
        (["reset"], UnavailableError, None),
        (["silent"], UnavailableError, None),
        (["dripping"], UnavailableError, None),
        (["short"], UnavailableError, None),
        (["untagged"], UnavailableError, None),
        (["unasked part"], UnavailableError, None),
        (["short", "wrong range"], UnavailableError, None),
        (["short", "changed"], UnavailableError, None),
        (["short", "whole"], UnavailableError, None),
        (["packed"], ReadError, None),
    ],
)
def test_whatever_goes_wrong_leaves_no_file_and_says_whether_to_try_again(server, tmp_path, behaviours, error, wait):
    server.behaviours = behaviours
    slow = {"silent", "dripping"} & set(behaviours)
    settings = FetchSettings(timeout=0.5, longest=1.0, tries=2) if slow else FetchSettings(tries=2)
    with pytest.raises(error, match="item s/1, asset red") as caught:
        fetch(source_of(server), tmp_path, settings=settings)
    assert type(caught.value) is error
    assert caught.value.transient == (error is UnavailableError)
    assert getattr(caught.value, "retry_after", None) == wait
    assert getattr(pickle.loads(pickle.dumps(caught.value)), "retry_after", None) == wait
    assert only_whole_files(tmp_path, server) == 0
    server.behaviours = ["fine"]
    assert fetch(source_of(server), tmp_path).read_bytes() == server.body


def test_the_rest_of_a_file_is_fetched_from_where_it_broke_off(server, tmp_path):
    server.behaviours = ["short", "fine"]
    source = source_of(server, checksum=checksum_of(server.body))
    assert fetch(source, tmp_path).read_bytes() == server.body
    (*_, whole), (*_, rest) = server.asked
    assert whole is None
    assert 0 < int(rest.removeprefix("bytes=").removesuffix("-")) <= len(server.body) // 2


def test_another_file_than_the_catalog_means_is_not_published(server, tmp_path):
    with pytest.raises(ChecksumError, match="item s/1"):
        fetch(source_of(server, checksum="1220" + "0" * 64), tmp_path)
    with pytest.raises(ChecksumError, match="catalog: 5 bytes"):
        fetch(source_of(server, size=5), tmp_path)
    assert only_whole_files(tmp_path, server) == 0


def test_files_and_folders_that_do_not_fit(server, tmp_path):
    with pytest.raises(LimitError, match="at most 1000"):
        fetch(source_of(server), tmp_path, settings=FetchSettings(most=1000))
    assert only_whole_files(tmp_path, server) == 0
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        fetch(source_of(server), tmp_path / "file")
    with pytest.raises(ReadError, match="object stores"):
        fetch(BandSource("s3://bucket/a.tif"), tmp_path)


def test_redirects_lead_only_to_where_the_policy_allows(server, raster, tmp_path):
    other = Server(raster.read_bytes())
    server.behaviours, server.elsewhere = ["redirect"], f"{other.url}a.tif"
    home = ReadPolicy().of_catalog(server.url)
    for act in (lambda s: fetch(s, tmp_path), open_source):
        for elsewhere in (f"{other.url}a.tif", "http://169.254.169.254/x", "file:///etc/passwd", "ftp://example.org/x"):
            server.elsewhere = elsewhere
            with pytest.raises(UnsafeSourceError, match="item s/1, asset red"):
                act(source_of(server, policy=home))
    assert other.asked == []
    server.elsewhere = f"{other.url}a.tif"
    assert fetch(source_of(server), tmp_path).read_bytes() == server.body
    listed = ReadPolicy(hosts=[f"127.0.0.1:{server.server_port}", f"127.0.0.1:{other.server_port}"])
    open_source(source_of(server, "b.tif", policy=listed)).close()
    server.elsewhere = f"{server.url}a.tif"  # round and round
    with pytest.raises(ReadError, match="leads nowhere"):
        fetch(source_of(server, "loop.tif"), tmp_path)
    other.shutdown(), other.server_close()


def test_scenes_are_fetched_with_each_file_once(server, tmp_path):
    bands = {f"b{k}": source_of(server, index=k, dtype="uint16", checksum=checksum_of(server.body)) for k in (1, 2)}
    away = ReadPolicy().of_catalog(server.url)
    bands = {n: BandSource(b.href, b.index, b.dtype, item="s", asset="a", policy=away) for n, b in bands.items()}
    scene = Scene("s", "generic", dt.datetime(2023, 6, 1, tzinfo=dt.UTC), (9.0, 46.9, 9.1, 47.0), {}, bands)
    local = fetched_scene(scene, tmp_path)
    assert len(server.asked) == 1
    assert {b.href for b in local.bands.values()} == {str(next(tmp_path.iterdir()))}
    pixels = SourceReader().read(list(local.bands.values()), (0, 700), (0, 700))
    with rasterio.open(tmp_path / next(tmp_path.iterdir())) as file:
        np.testing.assert_array_equal(pixels.values, file.read())
    assert fetched_scene(local, tmp_path) == local


@contextlib.contextmanager
def impatient():
    kept = dict(GDAL_SETTINGS)
    GDAL_SETTINGS.update(GDAL_HTTP_MAX_RETRY=0, GDAL_HTTP_TIMEOUT=1)
    yield
    GDAL_SETTINGS.update(kept)


@pytest.mark.parametrize("how", ["503", "429", "reset", "short", "404"])
def test_reading_in_place_tells_what_passes_and_recovers(server, how):
    source, reader = source_of(server, "b.tif"), SourceReader()
    with impatient():
        reader.layout(source)
        server.behaviours = [how]
        try:
            error = reader.read([source], (0, 700), (0, 700)).error
        except ReadError as found:
            error = found
        assert isinstance(error, UnavailableError) == (how != "404") or "got 0 bytes" in error.why
        assert error.about["item"] == "s/1"
        assert error.about["window"]
        server.behaviours = ["fine"]
        again = SourceReader().read([source], (0, 700), (0, 700))
    assert again.error is None
    assert again.valid.any()


def test_opening_in_place_says_how_long_to_wait(server, monkeypatch):
    from urllib3.util import Retry

    monkeypatch.setattr(Retry, "get_backoff_time", lambda self: 0)
    server.behaviours = ["503"]
    with pytest.raises(UnavailableError, match="item s/1") as caught:
        open_source(source_of(server, "c.tif"))
    assert caught.value.retry_after == 7.0
    assert len(server.asked) == 5
