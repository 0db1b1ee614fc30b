"""A server that misbehaves in ten ways: what came whole is mapped, what did not is tried again or put aside by name."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from batches import item_of, published, write_archive, write_composites, write_item

from geomm.batch import BatchOptions, run_batch
from geomm.config import load_batch

UNITS = 20 if os.environ.get("GEOMM_SOAK") else 1
ATTEMPTS = 3

# What the server does, how often before it does right, and what becomes of the unit.
BEHAVIOURS = {
    "well": (0, "DONE", ""),
    "error-500": (1, "DONE", ""),
    "busy-429": (1, "DONE", ""),
    "reset": (1, "DONE", ""),
    "short": (1, "DONE", ""),
    "slow": (99, "DONE", ""),
    "always-503": (99, "FAILED", "E304"),
    "always-short": (99, "FAILED", "E304"),
    "missing-404": (99, "QUARANTINED", "E302"),
    "other-bytes": (99, "QUARANTINED", "E306"),
    "elsewhere": (99, "QUARANTINED", "E305"),
}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.asked, self.lock = folder, Counter(), threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        _, how, name = self.path.split("/")
        with self.server.lock:
            self.server.asked[self.path] += 1
            turn = self.server.asked[self.path]
        body = (self.server.folder / name).read_bytes()
        if turn > BEHAVIOURS[how][0]:
            how = "well"
        if how in ("error-500", "always-503", "missing-404", "busy-429"):
            self.send_response(int(how[-3:]))
            if how == "busy-429":
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if how == "elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if how == "other-bytes":
            body = body[:-4] + b"\1\2\3\4"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if how in ("short", "always-short"):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        if how == "reset":
            self.wfile.write(body[:100])
            self.wfile.flush()
            self.connection.shutdown(2)
            self.close_connection = True
            return
        for start in range(0, len(body), 4096):
            if how == "slow":
                time.sleep(0.02)
            self.wfile.write(body[start : start + 4096])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    server = Server(folder / "imagery")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_ten_behaviours(server, tmp_path):
    number, items, expected = 0, [], {}
    for how in BEHAVIOURS:
        for _ in range(UNITS):
            write_item(server.folder, number)
            item = item_of(server.folder, number, f"scene-{number:04d}", checksums=True)
            for asset in item["assets"].values():
                name = Path(asset["href"]).name
                asset["href"] = f"http://127.0.0.1:{server.server_port}/{how}/{name}"
            expected[item["id"]] = how
            items.append(item)
            number += 1
    catalog = tmp_path / "items.json"
    catalog.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    recipe = write_composites(tmp_path, catalog)
    raw = yaml.safe_load(recipe.read_text())
    raw["stages"][0] |= {"crs": "EPSG:32632", "size": 1000}  # one tile and day for every scene
    recipe.write_text(yaml.safe_dump(raw | {"trust": {"fetch": True, "hosts": ["127.0.0.1"]}}))
    result = run_batch(
        load_batch(recipe), tmp_path / "out", BatchOptions(workers=4, attempts=ATTEMPTS, delay=0.2, max_failures=1000)
    )
    assert result.code == 3
    found = Counter()
    for unit in result.units:
        how = expected[unit.items[0][0]]
        _, state, code = BEHAVIOURS[how]
        if unit.state == "SKIPPED" and state == "DONE":  # a tile of which the scene has but the corner of its box
            continue
        assert (unit.state, unit.code) == (state, code), (how, unit)
        assert unit.attempts <= ATTEMPTS
        if state != "DONE":
            assert unit.item == unit.items[0][0]
            assert unit.asset == "B10"
        found[how] += 1
    assert set(found) == set(BEHAVIOURS)
    assert min(found.values()) >= UNITS
    most = max(server.asked.values())
    assert most <= 3 * ATTEMPTS, "a server in trouble is not asked without end"
    _same_as_local(server, tmp_path, result)


def _same_as_local(server, tmp_path, result):
    """What was published has the bytes of a run over the same files on disk."""
    plain = write_archive(tmp_path / "plain", range(len(BEHAVIOURS) * UNITS))
    local = yaml.safe_load((tmp_path / "thermal.yaml").read_text()) | {
        "name": "local",
        "source": {"catalog": str(plain)},
    }
    local.pop("trust")
    (tmp_path / "local.yaml").write_text(yaml.safe_dump(local))
    assert run_batch(load_batch(tmp_path / "local.yaml"), tmp_path / "whole").code == 0
    hashes = {h for n, h in published(tmp_path / "whole").items() if n.endswith("-median.tif")}
    mine = list((tmp_path / "out").rglob("*-median.tif"))
    assert len(mine) == sum(u.state == "DONE" for u in result.units)
    assert {hashlib.sha256(p.read_bytes()).hexdigest() for p in mine} <= hashes
