"""Units of work for tests of archives, and an S3 server on loopback."""

from __future__ import annotations

import http.client
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import obstore
from obstore.store import S3Store

from geomm.archive import Manifest

WEED = Path(sys.executable).with_name("weed")
KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "a-secret-of-tests", "AWS_REGION": "us-east-1"}


def item_of(name, when="2024-06-15T10:00:00Z", *, version=0, west=9.0):
    ring = [[west, 46.0], [west + 1, 46.0], [west + 1, 47.0], [west, 47.0], [west, 46.0]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [],
        "id": name,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, 46.0, west + 1, 47.0],
        "properties": {"datetime": when, "geomm:version": version},
        "links": [],
        "assets": {"class": {"href": "./class.tif", "type": "image/tiff", "roles": ["data"]}},
    }


def stage(folder, name="scene", *, version=0, size=1000, **about):
    """Write a unit of three files, one in a folder of its own, and return it with its manifest."""
    staged = Path(folder) / name
    (staged / "more").mkdir(parents=True)
    (staged / "class.tif").write_bytes(bytes([version]) * size)
    (staged / "more" / "notes.txt").write_text(f"{name} {version}")
    (staged / f"{name}.json").write_text(json.dumps(item_of(name, version=version, **about)))
    return staged, Manifest.of(staged, f"{name}.json")


def tree(folder):
    """Return the content of all files of a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def _ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


@contextmanager
def s3_server(folder):
    """Run SeaweedFS, which answers conditional requests as S3 does, with an empty bucket; yield its address."""
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
             "s3.port", "s3.port.grpc")  # fmt: skip
    ports = dict(zip(names, _ports(len(names)), strict=True))
    users = Path(folder) / "users.json"
    key = {"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}
    users.write_text(json.dumps({"identities": [{"name": "tester", "credentials": [key], "actions": ["Admin"]}]}))
    command = [
        str(WEED), "server", "-filer", "-s3", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-volume.max=16", "-s3.port.iceberg=0",
        "-s3.port.lance=0", f"-s3.config={users}", *(f"-{name}={port}" for name, port in ports.items()),
    ]  # fmt: skip
    with (Path(folder) / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        for _ in range(1200):
            with suppress(OSError):
                link = http.client.HTTPConnection("127.0.0.1", ports["s3.port"], timeout=5)
                link.request("GET", "/")
                link.getresponse().read()
                link.close()
                break
            time.sleep(0.1)
        else:
            raise RuntimeError((Path(folder) / "log").read_text()[-2000:])
        url = f"http://127.0.0.1:{ports['s3.port']}"
        first = S3Store("bucket", endpoint=url, client_options={"allow_http": True}, config=KEYS)
        obstore.put(first, "first", b"")
        obstore.delete(first, "first")
        yield url
    finally:
        server.kill()
        server.wait()


class Flaky:
    """A proxy before a server that does to requests what networks and full servers do."""

    def __init__(self, url):
        self.host, self.seen, self.act = url.removeprefix("http://"), [], None
        flaky = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with flaky.lock:
                    flaky.seen.append((self.command, self.path))
                    act = flaky.act and flaky.act(self.command, self.path)
                flaky.answer(self, body, act)

            def log_message(self, *args):
                pass

        for verb in ("GET", "PUT", "HEAD", "POST", "DELETE"):
            setattr(Handler, f"do_{verb}", Handler.handle_any)
        self.lock = threading.Lock()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def answer(self, handler, body, act):
        if isinstance(act, tuple):
            code, name = act
            text = f"<?xml version='1.0'?><Error><Code>{name}</Code><Message>no</Message></Error>".encode()
            self.send(handler, code, {"Content-Type": "application/xml"}, text)
            return
        if act == "stall":
            time.sleep(1.0)
        if act in ("stall", "reset"):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        headers = dict(handler.headers)
        link = http.client.HTTPConnection(self.host, timeout=120)
        if act == "cut":  # the connection to the server breaks in the middle of the body
            link.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for key, value in headers.items():
                link.putheader(key, value)
            link.endheaders()
            link.send(body[: len(body) // 2])
            link.close()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        if act == "shorten":  # somebody in between hands on less, and says so
            body = body[: len(body) // 2]
            headers = {k: str(len(body)) if k.lower() == "content-length" else v for k, v in headers.items()}
        link.request(handler.command, handler.path, body or None, headers)
        found = link.getresponse()
        content = found.read()
        link.close()
        if act == "lose":  # done, but nobody hears of it
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
            return
        self.send(handler, found.status, dict(found.headers), content, half=act == "half")

    @staticmethod
    def send(handler, status, headers, content, *, half=False):
        handler.send_response_only(status)
        length = headers.get("Content-Length") if handler.command == "HEAD" else str(len(content))
        for key, value in headers.items():
            if key.lower() not in ("content-length", "transfer-encoding", "connection"):
                handler.send_header(key, value)
        handler.send_header("Content-Length", length or "0")
        handler.end_headers()
        handler.wfile.write(content[: len(content) // 2] if half else content)
        handler.close_connection = half

    def close(self):
        self.server.shutdown()
        self.server.server_close()
