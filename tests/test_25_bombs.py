"""TIFFs that are made to harm: refused, or read without harm, in little memory."""

import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
import rasterio
from affine import Affine
from watched import read_all

MOST_MB = 512
BYTE, ASCII, SHORT, LONG, DOUBLE, LONG8 = 1, 2, 3, 4, 12, 16
LETTERS = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", DOUBLE: "d", LONG8: "Q"}
GEO = {
    33550: (DOUBLE, (10.0, 10.0, 0.0)),
    33922: (DOUBLE, (0.0, 0.0, 0.0, 500000.0, 5200000.0, 0.0)),
    34735: (SHORT, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632)),
}


def tags_of(size=(256, 256), tile=(256, 256), *, bits=8, bands=1, code=1, places=(0,), sizes=(0,), **more):
    """Tags of a tiled image; ``more`` as ``t<number>``, None to leave one out."""
    tags = {
        256: (LONG, (size[1],)), 257: (LONG, (size[0],)), 258: (SHORT, (bits,) * bands), 259: (SHORT, (code,)),
        262: (SHORT, (1,)), 277: (SHORT, (bands,)), 284: (SHORT, (1,)), 322: (LONG, (tile[1],)), 323: (LONG, (tile[0],)),
        324: (LONG, places), 325: (LONG, sizes), **GEO,
    }  # fmt: skip
    tags |= {int(k[1:]): v for k, v in more.items()}
    return {k: v for k, v in tags.items() if v is not None}


def strips(size, rows, **more):
    """Tags of an image in strips."""
    own = {"t322": None, "t323": None, "t324": None, "t325": None, "t273": (LONG, (0,)), "t279": (LONG, (0,))}
    return tags_of(size, **(own | {"t278": (LONG, (rows,))} | more))


def tiff(*directories, data=b"", following=None, counts=None, big=False):
    """Bytes of a TIFF; ``data`` begins at byte 16. ``counts`` claims other numbers of values than there are.

    ``following`` says where each directory's next one is: "next", 0, or the number of a directory.
    """
    head, body = (b"II+\0" + struct.pack("<HHQ", 8, 0, 0), bytearray()) if big else (b"II*\0" + bytes(12), bytearray())
    body += head + data + bytes(len(data) % 2)
    places, links = [], []
    for tags in directories:
        entries, size = [], 8 if big else 4
        for tag in sorted(tags):
            kind, values = tags[tag]
            raw = struct.pack(f"<{len(values)}{LETTERS[kind]}", *values)
            number = (counts or {}).get(tag, len(values))
            if len(raw) > size:
                at = len(body)
                body += raw + bytes(len(raw) % 2)
                raw = struct.pack("<Q" if big else "<I", at)
            entries.append(struct.pack("<HHQ" if big else "<HHI", tag, kind, number) + raw.ljust(size, b"\0"))
        places.append(len(body))
        body += struct.pack("<Q" if big else "<H", len(entries)) + b"".join(entries)
        links.append(len(body))
        body += bytes(size)
    targets = following or ["next"] * len(places)
    for k, (link, target) in enumerate(zip(links, targets, strict=True)):
        place = (places[k + 1] if k + 1 < len(places) else 0) if target == "next" else places[target]
        struct.pack_into("<Q" if big else "<I", body, link, place)
    struct.pack_into("<Q" if big else "<I", body, 8 if big else 4, places[0])
    below = body.find(struct.pack("<HHI", 330, LONG, 1))
    if below >= 0:
        struct.pack_into("<I", body, below + 8, places[0])
    return bytes(body)


def inflating(megabytes):
    packer = zlib.compressobj(9)
    return b"".join([packer.compress(bytes(2**20)) for _ in range(megabytes)]) + packer.flush()


def with_data(data, **how):
    return tiff(tags_of(places=(16,), sizes=(len(data),), **how), data=data)


def lerc(width, height):
    """The header of a LERC2 blob that claims a size."""
    return b"Lerc2 " + struct.pack("<iIiiiiiid", 4, 0, height, width, 1, width * height, 8, 100, 0) + bytes(64)


def xz():
    """An LZMA2 stream whose dictionary is 4 GB."""
    flags = b"\0\x01"
    head = b"\xfd7zXZ\0" + flags + struct.pack("<I", zlib.crc32(flags))
    block = b"\x02\0\x21\x01\x28\0\0\0"
    return head + block + struct.pack("<I", zlib.crc32(block)) + bytes(64)


def laughs():
    entities = "".join(f'<!ENTITY a{b} "{f"&a{a};" * 10}">' for a, b in pairwise(range(12)))
    text = (
        f'<!DOCTYPE x [<!ENTITY a0 "{"x" * 100}">{entities}]><GDALMetadata><Item name="a">&a11;</Item></GDALMetadata>'
    )
    return text.encode() + b"\0"


DIRECTORY = tags_of()
BOMBS = {
    "one block of 1 GB": lambda: with_data(inflating(1024), size=(32768, 32768), tile=(32768, 32768), code=8),
    "one strip of 3.6 GB": lambda: tiff(strips((60000, 60000), 60000, t259=(SHORT, (8,)))),
    "one strip of 241 MB": lambda: tiff(
        strips((10980, 10980), 10980, bits=16, t259=(SHORT, (8,)), t273=(LONG, (16,)), t279=(LONG, (len(inflating(230)),))),
        data=inflating(230),
    ),
    "rows per strip without end": lambda: tiff(strips((60000, 60000), 2**32 - 1, t259=(SHORT, (5,)))),
    "no rows per strip": lambda: tiff(strips((60000, 60000), 0, t259=(SHORT, (5,)))),
    "rows of 200 MB": lambda: tiff(strips((1000, 200_000_000), 1, t259=(SHORT, (8,)))),
    "rows of 2 GB": lambda: tiff(strips((1000, 2**31 - 1), 1, t259=(SHORT, (8,)))),
    "65,535 bands": lambda: tiff(tags_of(bands=65535)),
    "10,000 bands of doubles by pixel": lambda: tiff(tags_of((4096, 4096), (1024, 1024), bits=64, bands=10_000)),
    "a directory that follows itself": lambda: tiff(DIRECTORY, following=[0]),
    "two directories in a circle": lambda: tiff(DIRECTORY, DIRECTORY, following=["next", 0]),
    "5,000 directories": lambda: tiff(*[DIRECTORY] * 5000),
    "a directory below itself": lambda: tiff(tags_of(t330=(LONG, (0,)))),
    "25,000 entries": lambda: tiff({**dict.fromkeys(range(40000, 65000), (LONG, (1,))), **DIRECTORY}),
    "2^60 entries": lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60) + bytes(64),
    "a text of 4 GB": lambda: tiff(tags_of(t270=(ASCII, b"abcdefgh")), counts={270: 2**32 - 1}),
    "2^62 values": lambda: tiff(tags_of(t65000=(LONG8, (1, 2))), counts={65000: 2**62}, big=True),
    "tiles of no length": lambda: tiff(tags_of((1024, 1024), places=(16,) * 16, sizes=(0,) * 16), data=bytes(64)),
    "tiles of 4 GB": lambda: tiff(tags_of(places=(16,), sizes=(2**32 - 1,), code=8), data=bytes(64)),
    "tiles beyond the end": lambda: tiff(tags_of(places=(2**32 - 100,), sizes=(1000,), code=8)),
    "one tile for 10,000": lambda: tiff(tags_of((25600, 25600), places=(16,), sizes=(64,)), data=bytes(64)),
    "2^32 tiles for one": lambda: tiff(tags_of(), counts={324: 2**32 - 1, 325: 2**32 - 1}),
    "tiles of no width": lambda: tiff(tags_of(tile=(256, 0))),
    "tiles of 2^31 columns": lambda: tiff(tags_of(tile=(256, 2**31))),
    "2^32 rows and columns": lambda: tiff(tags_of((2**32 - 1, 2**32 - 1))),
    "2^31 rows and columns": lambda: tiff(tags_of((2**31 - 1,) * 2)),
    "no rows": lambda: tiff(tags_of((0, 0))),
    "a predictor that is none": lambda: with_data(inflating(1), code=8, t317=(SHORT, (99,))),
    "a float predictor of bytes": lambda: with_data(inflating(1), code=8, t317=(SHORT, (3,))),
    "a small tile that inflates to 1 GB": lambda: with_data(inflating(1024), code=8),
    "63 bits": lambda: tiff(tags_of(bits=63)),
    "a LERC of 2^30 pixels": lambda: with_data(lerc(2**15, 2**15), code=34887, t50674=(LONG, (4, 0))),
    "an LZMA with 4 GB of memory": lambda: with_data(xz(), code=34925),
    "a Zstandard window of 2 GB": lambda: with_data(b"\x28\xb5\x2f\xfd\x04\xa8" + bytes(64), code=50000),
    "a JPEG of 65,500 pixels in a tile": lambda: with_data(
        b"\xff\xd8\xff\xc2\0\x0b\x08\xff\xdc\xff\xdc\x01\x01\x11\0" + bytes(64), code=7, t262=(SHORT, (1,))
    ),
    "an overview larger than the image": lambda: tiff(DIRECTORY, tags_of((2**31 - 1,) * 2, t254=(LONG, (1,)))),
    "a mask larger than the image": lambda: tiff(DIRECTORY, tags_of((2**30,) * 2, bits=1, t254=(LONG, (4,)))),
    "metadata that unfold": lambda: tiff(tags_of(t42112=(ASCII, laughs()))),
    "metadata 50,000 deep": lambda: tiff(tags_of(t42112=(ASCII, b"<a>" * 50_000 + b"\0"))),
}  # fmt: skip


def sparse(path):
    """115 GB in a few kilobytes, as GDAL itself writes it."""
    with rasterio.open(path, "w", driver="GTiff", dtype="uint16", count=1, height=240_000, width=240_000, tiled=True,
                       blockxsize=1024, blockysize=1024, sparse_ok=True, crs="EPSG:32632",
                       transform=Affine(1, 0, 500000, 0, -1, 5200000)):  # fmt: skip
        pass
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What became of every bomb, read as any other file, in a process of its own."""
    folder = tmp_path_factory.mktemp("bombs")
    paths = [sparse(folder / "sparse.tif")]
    for number, make in enumerate(BOMBS.values()):
        paths.append(folder / f"{number}.tif")
        paths[-1].write_bytes(make())
    good = folder / "good.tif"
    good.write_bytes(tiff(tags_of(places=(16,), sizes=(65536,)), data=bytes(range(256)) * 256))
    # The first one loads the libraries, which is not what is measured.
    found = read_all([{"path": str(p)} for p in (good, *paths)], folder)
    assert found[0]["error"] is None
    return dict(zip(["115 GB, stored sparsely", *BOMBS], found[1:], strict=True))


def test_the_builder_builds_what_can_be_read(tmp_path):
    path = tmp_path / "good.tif"
    for big in (False, True):
        path.write_bytes(tiff(tags_of(places=(16,), sizes=(65536,)), data=bytes(range(256)) * 256, big=big))
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), np.tile(np.arange(256, dtype="uint8"), (256, 1)))


@pytest.mark.parametrize("name", ["115 GB, stored sparsely", *BOMBS])
def test_bombs_are_refused_or_harmless(results, name):
    result = results[name]
    assert result["error"] not in ("crash", "hang", "other"), result["text"]
    assert result["seconds"] < 5.0
    assert result["grown"] < MOST_MB
    assert result["error"] is None or result["about"]["item"] == "item-1"
