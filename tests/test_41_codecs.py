"""How the chunks of a store are written: plain or LZ4, past the page cache or through it, always the same bytes."""

from __future__ import annotations

import errno
import json
import os
import random
from dataclasses import replace
from pathlib import Path

import google_crc32c
import imagecodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from numcodecs import Blosc

import geomm
from geomm.chipping import ChipReader
from geomm.chips import ChipGrid
from geomm.errors import ConfigError, OutputError, PackageError
from geomm.store import StoredChips, StorePart, append, codec, verify_store, write_store
from geomm.store.append import ShardWriter
from geomm.store.plan import StorePlan
from geomm.store.shard import PAGE, ArraySpec, ShardReader
from geomm.testing import write_scene

SHAPE = (384, 512)
OPTICAL = "chips.zarr/images/optical/c.0.0.0.0.0"


@pytest.fixture(scope="module")
def part(tmp_path_factory):
    """Twelve chips of 128 pixels, in two batches: optics in whole pages of 64 KiB, heat in too few for that."""
    folder = tmp_path_factory.mktemp("codecs")
    write_scene(folder, "landsat-oli-l1", bands=("B2", "B3"), shape=SHAPE)
    write_scene(folder, "landsat-tirs-l1", bands=("B10",), shape=SHAPE)
    sensors = ("landsat-oli-l1", "landsat-tirs-l1")
    scenes = geomm.build_catalog(folder, folder / "c", sensors=sensors, datetime="2020-06-01").search()
    streams = {"optical": geomm.Modality(sensors[0], ("B2", "B3")), "thermal": geomm.Modality(sensors[1], ("B10",))}
    cube = geomm.load_cube(scenes, geomm.common_geobox(scenes), streams)
    return StorePart("a", ChipReader(cube, list(ChipGrid(SHAPE, 128)), list(streams)))


@pytest.fixture(scope="module")
def plain(part, tmp_path_factory):
    return write_store([part], tmp_path_factory.mktemp("plain") / "store")


def _bytes(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _spec(shape, dtype, codec_="none"):
    return ArraySpec("images/a", tuple(shape), str(dtype), (), {}, codec_)


def test_plain_and_compressed_stores_hold_the_same(part, plain, tmp_path):
    packed = write_store([part], tmp_path / "packed", compress=True)
    live = part.reader.read(range(12))
    for folder in (plain, packed):
        stored = StoredChips(folder)
        for arrays in (stored.read(range(12)), next(stored.stream(12))):
            for name, value in live.images.items():
                positions = np.argsort(stored.table["index"].to_numpy())
                np.testing.assert_array_equal(arrays.images[name][positions], value)
                np.testing.assert_array_equal(arrays.valid[name][positions], live.valid[name])
        group = zarr.open_group(folder / "chips.zarr", mode="r")
        np.testing.assert_array_equal(group["images/optical"][:], stored.read(range(12)).images["optical"])
        np.testing.assert_array_equal(group["valid/thermal"][:], stored.read(range(12)).valid["thermal"])
        assert verify_store(folder) == []
    assert {a.codec for a in StoredChips(plain).arrays if a.name.startswith("images/")} == {"none"}
    assert {a.codec for a in StoredChips(packed).arrays} == {"lz4"}
    assert {a.codec for a in StoredChips(plain).arrays if a.name.startswith("valid/")} == {"lz4"}
    assert (packed / OPTICAL).stat().st_size < (plain / OPTICAL).stat().st_size
    with pytest.raises(PackageError, match="codec"):
        StoredChips(plain).select(codec="none")


def test_a_store_that_was_begun_goes_on_as_it_is(part, plain, tmp_path):
    store = write_store([part], tmp_path / "store", compress=True)
    content = _bytes(store)
    assert "codec" not in json.dumps(json.loads(content["plan.json"])["arrays"])  # as stores before codecs are
    (store / OPTICAL).unlink()
    write_store([part], store)
    assert _bytes(store) == content
    with pytest.raises(OutputError, match=r'other chips.*images/optical codec: there "lz4", here "none"'):
        write_store([part], store, compress=False)
    with pytest.raises(OutputError, match=r'other chips.*images/optical codec: there "none", here "lz4"'):
        write_store([part], plain, compress=True)
    assert _bytes(store) == content


def test_stores_whose_names_have_folders_are_read_and_made_longer(part, plain, tmp_path, monkeypatch):
    of = StorePlan.of.__func__
    with monkeypatch.context() as context:  # as stores were begun before names had none
        context.setattr(StorePlan, "of", classmethod(lambda cls, parts, **o: of(cls, parts, **{**o, "separator": "/"})))
        store = write_store([part], tmp_path / "store")
    assert "separator" not in json.loads((store / "plan.json").read_text())
    assert (store / "chips.zarr/images/optical/c/0/0/0/0/0").read_bytes() == (plain / OPTICAL).read_bytes()
    content = _bytes(store)
    for folder in (store, plain):
        group = zarr.open_group(folder / "chips.zarr", mode="r")
        np.testing.assert_array_equal(group["images/optical"][:], StoredChips(folder).read(range(12)).images["optical"])
        np.testing.assert_array_equal(group["bounds"][:], StoredChips(folder).read(range(12)).bounds)
    (store / "chips.zarr/bounds/c/0/0").unlink()
    write_store([part], store)
    assert _bytes(store) == content
    longer = write_store([part, replace(part, site="more")], store)
    assert len(StoredChips(longer)) == 2 * len(StoredChips(plain))
    assert verify_store(longer) == []
    assert not list(longer.rglob("c.*"))
    about = json.loads((store / "plan.json").read_text())
    (store / "plan.json").write_text(json.dumps({**about, "separator": "-"}))
    (store / "store.json").unlink()
    with pytest.raises(PackageError, match="newer geomm"):
        StoredChips(store)
    for compress in (None, False):
        with pytest.raises(PackageError, match="newer geomm"):
            write_store([part], store, compress=compress)


def test_large_plain_chunks_begin_on_pages(plain):
    file = ShardReader(plain / OPTICAL)
    places = [file._found(k) for k in range(12)]
    assert [offset % PAGE for offset, _ in places] == [0] * 12
    assert {size for _, size in places} == {2 * 128 * 128 * 2 + 4}
    heat = ShardReader(plain / "chips.zarr/images/thermal/c.0.0.0.0.0")
    offsets = [heat._found(k)[0] for k in range(12)]
    assert offsets == [k * (128 * 128 * 2 + 4) for k in range(12)]  # small ones follow each other


@pytest.mark.parametrize("refusal", ["open", "write"])
def test_a_disk_that_cannot_be_written_directly_gets_the_same_bytes(part, plain, tmp_path, monkeypatch, refusal):
    refused = []
    really = {"open": os.open, "pwritev": os.pwritev}

    def open_(path, flags, *rest, **options):
        if flags & append._DIRECT:
            refused.append(path)
            raise OSError(errno.EOPNOTSUPP, "this file system has no direct writes")
        return really["open"](path, flags, *rest, **options)

    def pwritev(file, parts, at):
        if append.fcntl.fcntl(file, append.fcntl.F_GETFL) & append._DIRECT:
            refused.append(file)
            raise OSError(errno.EINVAL, "the pages of this disk are larger")
        return really["pwritev"](file, parts, at)

    monkeypatch.setattr(append.os, *(("open", open_) if refusal == "open" else ("pwritev", pwritev)))
    store = write_store([part], tmp_path / "store")
    assert _bytes(store) == _bytes(plain)
    assert len(refused) == 1  # once for the one file that is written so


def test_a_disk_that_takes_little_at_a_time_gets_the_same_bytes(part, plain, tmp_path, monkeypatch):
    really = os.pwritev

    def a_little(file, parts, at):
        return really(
            file, [memoryview(parts[0])[: max(len(parts[0]) // (3 * PAGE) * PAGE, min(PAGE, len(parts[0])))]], at
        )

    monkeypatch.setattr(append.os, "pwritev", a_little)
    assert _bytes(write_store([part], tmp_path / "store")) == _bytes(plain)


@pytest.mark.parametrize("after", [0, 1, 2, 5])
def test_a_full_disk_leaves_nothing_half_and_the_same_call_goes_on(part, plain, tmp_path, monkeypatch, after):
    really, left = os.pwritev, [after]

    def full(file, parts, at):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(file, parts, at)

    with monkeypatch.context() as patch:
        patch.setattr(append.os, "pwritev", full)
        with pytest.raises(OutputError, match="No space left"):
            write_store([part], tmp_path / "store")
    assert len(StoredChips(tmp_path / "store")) == 0
    assert not [p for p in (tmp_path / "store").rglob(".*") if p.is_file()]
    assert _bytes(write_store([part], tmp_path / "store")) == _bytes(plain)


def test_files_that_cannot_be_made_leave_nothing_open(part, plain, tmp_path, monkeypatch):
    really, made = append._create, []

    def create(path, **options):
        made.append(path)
        if len(made) == 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return really(path, **options)

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(append, "_create", create)
        with pytest.raises(OutputError, match="Too many open files"):
            write_store([part], tmp_path / "store")
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not [p for p in (tmp_path / "store").rglob(".*") if p.is_file()]
    assert _bytes(write_store([part], tmp_path / "store")) == _bytes(plain)


def test_chunks_go_to_the_disk_a_batch_at_a_time(part, tmp_path, monkeypatch):
    """Counted: a write for every batch of large chunks, one for the small ones of a shard, one for its index."""
    written, really = {}, os.pwritev

    def counted(file, parts, at):
        name = Path(os.readlink(f"/proc/self/fd/{file}")).relative_to(tmp_path / "store" / "chips.zarr").parts[:2]
        written.setdefault("/".join(name), []).append(len(parts))
        return really(file, parts, at)

    monkeypatch.setattr(append.os, "pwritev", counted)
    write_store([part], tmp_path / "store")
    assert written["images/optical"] == [16, 8, 2]
    assert written["images/thermal"] == written["valid/optical"] == [24, 2]


def test_a_flipped_bit_is_reported_wherever_it_is(plain, tmp_path):
    data = (plain / OPTICAL).read_bytes()
    generator = random.Random(0)
    page = 2 * 128 * 128 * 2
    places = [page + 3, page + 4, page + PAGE - 1, len(data) - 1, len(data) - 1028 - 1]  # seal, after it, gap, index
    places += [generator.randrange(len(data)) for _ in range(20)]
    store = write_like(plain, tmp_path / "store")
    for where in places:
        broken = bytearray(data)
        broken[where] ^= 1 << generator.randrange(8)
        (store / OPTICAL).write_bytes(broken)
        assert any(OPTICAL in line for line in verify_store(store)), where
    (store / OPTICAL).write_bytes(data[:-PAGE])
    assert any(OPTICAL in line for line in verify_store(store))
    (store / OPTICAL).write_bytes(data)
    assert verify_store(store) == []


def test_a_manifest_that_has_changed_is_not_believed(plain, tmp_path):
    store = write_like(plain, tmp_path / "store")
    data = bytearray((store / "manifest.parquet").read_bytes())
    data[len(data) // 2] ^= 1
    (store / "manifest.parquet").write_bytes(data)
    with pytest.raises(PackageError, match=r"manifest.parquet.*changed"):
        _ = StoredChips(store).table
    (store / "manifest.parquet").unlink()
    with pytest.raises(PackageError, match=r"manifest.parquet.*missing"):
        _ = StoredChips(store).table


def test_what_is_no_plan_or_of_a_later_version_is_said(part, plain, tmp_path):
    store = write_like(plain, tmp_path / "store")
    (store / "store.json").unlink()
    about = json.loads((store / "plan.json").read_text())
    about["arrays"][0]["codec"] = "zfp"
    (store / "plan.json").write_text(json.dumps(about))
    with pytest.raises(PackageError, match="newer geomm.*images/optical is stored as 'zfp'"):
        StoredChips(store)
    with pytest.raises(PackageError, match="newer geomm"):
        write_store([part], store)
    (store / "plan.json").write_text("{}")
    with pytest.raises(OutputError, match="something else"):
        write_store([part], store)
    with pytest.raises(ConfigError, match="True or False.*'none'"):
        write_store([part], tmp_path / "other", compress="none")
    longer = StorePart("b", part.reader)
    with pytest.raises(OutputError, match="sites: there 2, here 1"):
        write_store([part], write_store([part, longer], tmp_path / "two"))


def write_like(store, target):
    """Copy a store."""
    for name, data in _bytes(store).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return target


def test_memory_that_does_not_begin_with_a_page_is_written_too(tmp_path):
    spec = _spec((2, 128, 128), "uint16")
    values = np.random.default_rng(0).integers(0, 9999, (3, 2, 128, 128)).astype("uint16")
    memory = np.empty(values.nbytes + 2, np.uint8)[2:].view("uint16").reshape(values.shape)
    memory[:] = values
    writer = ShardWriter(tmp_path / "shard", spec)
    writer.add(0, [spec.encode(v) for v in memory])
    writer.close()
    out, file = np.empty(spec.shape, spec.dtype), ShardReader(tmp_path / "shard")
    for k, value in enumerate(values):
        spec.read(file, k, out)
        np.testing.assert_array_equal(out, value)
    assert not file.strays()


shapes = nps.array_shapes(min_dims=2, max_dims=4, max_side=20)
kinds = st.sampled_from(["uint8", "int8", "bool", "uint16", "int16", "int32", "float32"])


@given(st.data(), shapes, kinds, st.booleans())
def test_arrays_come_back(data, shape, kind, same):
    """Independent of this code: what is compressed is decoded by numcodecs, checksums are those of google-crc32c."""
    values = data.draw(nps.arrays(kind, shape, elements={"allow_nan": False} if kind == "float32" else None))
    if same:
        values[...] = values.flat[0]
    for name in ("none", "lz4"):
        spec = _spec(shape, kind, name)
        stored, seal = spec.encode(values)
        assert int.from_bytes(seal, "little") == google_crc32c.value(bytes(stored))
        out = np.empty(shape, kind)
        spec.decode(bytes(stored) + seal, out)
        np.testing.assert_array_equal(out, values)
        plainly = Blosc().decode(bytes(stored)) if name == "lz4" else bytes(stored)
        assert plainly == values.tobytes()
        with pytest.raises(ValueError, match="checksum"):
            spec.decode(bytes(stored) + bytes(4 * [seal[0] ^ 1]), out)


@pytest.mark.parametrize("name", ["none", "lz4"])
@pytest.mark.parametrize("value", [np.arange(24 * 16, dtype="uint8").reshape(24, 16), np.ones((128, 128), "uint8")])
def test_chunks_of_another_size_are_refused(tmp_path, name, value):
    spec, other = _spec(value.shape, "uint8", name), _spec((value.shape[0] * 2, value.shape[1]), "uint8", name)
    writer = ShardWriter(tmp_path / "shard", spec)
    writer.add(0, [spec.encode(value)])
    writer.close()
    with pytest.raises((ValueError, RuntimeError)):
        other.read(ShardReader(tmp_path / "shard"), 0, np.empty(other.shape, "uint8"))


def test_checksums_are_the_same_without_isa_l(monkeypatch):
    data = os.urandom(100_003)
    fast = codec.checksum(data)
    codec._crc32c.cache_clear()
    monkeypatch.setattr(imagecodecs, "ISAL", None)
    try:
        assert codec.checksum(data) == fast == google_crc32c.value(data).to_bytes(4, "little")
        assert codec.checksum(np.frombuffer(data, np.uint8)[1:]) == google_crc32c.value(data[1:]).to_bytes(4, "little")
    finally:
        codec._crc32c.cache_clear()
