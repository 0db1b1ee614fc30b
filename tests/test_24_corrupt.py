"""Damaged files: refused where the catalog states a checksum; without, never a crash or a hang, and how many go unnoticed."""

import hashlib
import os
import struct
import sys
from collections import Counter

import numpy as np
import pytest
import rasterio
from affine import Affine
from watched import read_all

SEEDS = 25 if os.environ.get("GEOMM_SOAK") else 5
UNNOTICED = {5: 32, 25: 167}
"""Files without a checksum that are read as something else than what was written, by seeds: not to rise."""
PLACE = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500000, 0, -10, 5200000)}
CODECS = {
    "none": {},
    "deflate": {"compress": "deflate", "predictor": 2},
    "lzw": {"compress": "lzw"},
    "zstd": {"compress": "zstd", "predictor": 2},
    "lerc": {"compress": "lerc_deflate"},
}


def truncated(data, rng):
    return data[: int(rng.integers(len(data) // 4, len(data) - 1))]


def flipped(data, rng, number=1):
    changed = bytearray(data)
    for place in rng.integers(0, len(data), number):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def zeroed(data, rng):
    start = int(rng.integers(0, len(data) - 4096))
    return data[:start] + bytes(4096) + data[start + 4096 :]


def tailless(data, rng):
    start = int(rng.integers(len(data) // 2, len(data) - 1))
    return data[:start] + bytes(len(data) - start)


def garbled_header(data, rng):
    return rng.bytes(16) + data[16:] if rng.integers(2) else data[:4] + rng.bytes(12) + data[16:]


def garbled_directory(data, rng):
    """Overwrite an entry of the first directory."""
    place = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, place)[0]
    at = place + 2 + 12 * int(rng.integers(count)) + int(rng.integers(12))
    return data[:at] + rng.bytes(4) + data[at + 4 :]


def swapped(data, rng):
    """Exchange two pieces of the second half, where pixels lie, or insert some bytes."""
    if rng.integers(2):
        at = int(rng.integers(len(data) // 4, len(data)))
        return data[:at] + rng.bytes(int(rng.integers(1, 64))) + data[at:]
    size = 2048
    a, b = sorted(int(v) for v in rng.choice(np.arange(len(data) // 4, len(data) - 2 * size, size), 2, replace=False))
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


MUTATIONS = {
    "truncated": truncated,
    "bit": flipped,
    "bits": lambda data, rng: flipped(data, rng, 64),
    "zeroed": zeroed,
    "tail": tailless,
    "header": garbled_header,
    "directory": garbled_directory,
    "moved": swapped,
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Files with codec, mutation, the hash of what was written, and their own path."""
    folder = tmp_path_factory.mktemp("corpus")
    walk = np.cumsum(np.random.default_rng(0).integers(-9, 10, (256, 256)), 1) + 3000
    files = []
    for codec, options in CODECS.items():
        whole = folder / f"{codec}.tif"
        with rasterio.open(whole, "w", driver="GTiff", dtype="uint16", count=1, height=256, width=256, tiled=True,
                           blockxsize=64, blockysize=64, **PLACE, **options) as file:  # fmt: skip
            file.write(walk.astype("uint16")[None])
        data = whole.read_bytes()
        for kind, change in MUTATIONS.items():
            for seed in range(SEEDS):
                rng = np.random.default_rng([seed, *f"{codec}{kind}".encode()])
                damaged = change(data, rng)
                assert damaged != data
                path = folder / f"{codec}-{kind}-{seed}.tif"
                path.write_bytes(damaged)
                files.append({"codec": codec, "kind": kind, "path": str(path), "size": len(damaged),
                              "checksum": "1220" + hashlib.sha256(data).hexdigest()})  # fmt: skip
    pixels = hashlib.sha256(np.ascontiguousarray(walk.astype("uint16")[None, None])).hexdigest()
    whole = [{"path": str(folder / f"{codec}.tif")} for codec in CODECS]
    return folder, files, whole, pixels


def test_the_reading_process_reads_what_was_written(corpus):
    folder, _, whole, pixels = corpus
    assert {r["pixels"] for r in read_all(whole, folder)} == {pixels}


def test_with_checksums_no_damage_goes_unnoticed(corpus):
    folder, files, *_ = corpus
    results = read_all([{"path": f["path"], "checksum": f["checksum"]} for f in files], folder)
    assert len(results) == 5 * 8 * SEEDS
    assert Counter(r["error"] for r in results) == {"ChecksumError": len(files)}
    assert all(r["about"]["item"] == "item-1" and r["about"]["asset"] == "red" for r in results)


def test_without_checksums_nothing_crashes_or_hangs_and_errors_name_their_place(corpus):
    folder, files, _, pixels = corpus
    results = read_all([{"path": f["path"]} for f in files], folder)
    strange = [(f["path"], r) for f, r in zip(files, results, strict=True) if r["error"] in ("crash", "hang", "other")]
    assert not strange, strange[:3]
    assert max(r["seconds"] for r in results) < 5.0
    for result in results:
        if result["error"] is not None:
            assert "item item-1, asset red" in result["text"], result
            assert result["about"]["item"] == "item-1"
            assert result["about"]["asset"] == "red"
            decoding = result["text"].startswith(("the source cannot be read", "the window"))
            assert ("window" in result["about"]) == decoding, result
    unnoticed = Counter(
        f"{f['codec']} {f['kind']}" for f, r in zip(files, results, strict=True) if r["pixels"] not in (None, pixels)
    )
    refused, same = sum(r["error"] is not None for r in results), sum(r["pixels"] == pixels for r in results)
    sys.stdout.write(f"{len(files)} files: {refused} refused, {same} unharmed, {unnoticed.total()} unnoticed\n")
    assert unnoticed.total() <= UNNOTICED[SEEDS], dict(unnoticed)
