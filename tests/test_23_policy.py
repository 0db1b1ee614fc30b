"""Which addresses, names and documents of catalogs are followed."""

import dataclasses
import json
import pickle

import dask
import numpy as np
import pystac
import pytest
import rasterio
import requests
import yaml
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import Resampling

import geomm
from geomm.catalog import (
    BandSource,
    Limits,
    ReadPolicy,
    open_catalog,
    open_dataset,
    open_source,
    parse_yaml,
    safe_name,
    safe_names,
)
from geomm.catalog import static as static_module
from geomm.catalog.checksum import parsed
from geomm.catalog.hosts import is_private
from geomm.catalog.names import LONGEST
from geomm.catalog.parquet import write_parquet
from geomm.catalog.policy import check
from geomm.errors import (
    CatalogError,
    ChecksumError,
    ConfigError,
    LimitError,
    ReadError,
    SourceWarning,
    UnsafeSourceError,
)

PLACE = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500000, 0, -10, 5200000)}


def write(path, **profile):
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", count=1, height=64, width=64, **(PLACE | profile)
    ) as file:
        file.write(np.arange(64 * 64, dtype="uint16").reshape(1, 64, 64))
    return path


def item_of(href, *, name="i1", key="red", **fields):
    item = pystac.Item(
        name, {"type": "Point", "coordinates": [9.0, 46.9]}, [9.0, 46.8, 9.1, 47.0], None,
        {"geomm:sensors": ["generic"], "start_datetime": "2024-01-01T00:00:00Z", "end_datetime": "2024-01-02T00:00:00Z",
         "datetime": None},
    )  # fmt: skip
    item.add_asset(key, pystac.Asset(href, media_type=pystac.MediaType.GEOTIFF, extra_fields=fields))
    return item


def saved(folder, *items):
    path = folder / "items.json"
    records = [{**i.to_dict(include_self_link=False, transform_hrefs=False)} for i in items]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": records}))
    return path


# addresses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("href", "name"),
    [
        ("/data/a.tif", "/data/a.tif"),
        ("/data/x/../a b!#?.tif", "/data/a b!#?.tif"),
        ("/data/10:30.tif", "/data/10:30.tif"),
        ("file:///data/a%20b.tif", "/data/a b.tif"),
        ("FILE://localhost/data/a.tif", "/data/a.tif"),
        ("https://example.org/a.tif", "/vsicurl/https://example.org/a.tif"),
        ("HTTPS://Example.ORG:8443/a.tif?X-Amz-Signature=a%2Fb&x=1", None),
        ("https://example.org/a%20b/+/é.tif", None),
        ("http://[2606:4700::1111]/a.tif", None),
        ("s3://bucket/key/a.tif", "/vsis3/bucket/key/a.tif"),
        ("gs://bucket/a.tif", "/vsigs/bucket/a.tif"),
        ("az://container/a.tif", "/vsiaz/container/a.tif"),
        ("abfs://container/a.tif", "/vsiaz/container/a.tif"),
    ],
)
def test_ordinary_addresses_are_followed(href, name):
    address = check(href, ReadPolicy())
    assert address.name == (name or f"/vsicurl/{href}")


PRIVATE = [
    "localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1",
    "10.0.0.5", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.100.100.200", "168.63.129.16", "0.0.0.0", "[::1]",
    "[::]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]",
    "[fd00:ec2::254]", "[::127.0.0.1]", "metadata.google.internal", "metadata.google.internal.", "metadata", "redis",
    "db.corp", "printer.local", "224.0.0.1", "255.255.255.255", "[ff02::1]",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_private_hosts_are_refused_however_they_are_written(host):
    assert is_private(host)
    with pytest.raises(UnsafeSourceError, match="private network"):
        check(f"http://{host}/a.tif", ReadPolicy())
    check(f"http://{host}/a.tif", ReadPolicy(private=True))


@pytest.mark.parametrize(
    "host", ["example.org", "8.8.8.8", "[2606:4700::1111]", "x.blob.core.windows.net", "0x08080808"]
)
def test_public_hosts_are_not(host):
    assert not is_private(host)


def test_hosts_that_are_listed():
    policy = ReadPolicy(hosts=["data.example.org", "*.eo.org", "10.0.0.5:9000", "s3://mine"])
    for href in ("https://DATA.example.org./a", "http://a.b.eo.org/a", "http://10.0.0.5:9000/a", "s3://mine/a"):
        check(href, policy)
    for href in ("https://example.org/a", "http://eo.org/a", "http://xeo.org/a", "http://10.0.0.5/a", "s3://other/a"):
        with pytest.raises(UnsafeSourceError, match=r"none of data\.example\.org"):
            check(href, policy)


def test_a_remote_catalog_names_its_own_host_and_no_local_file(tmp_path):
    policy = ReadPolicy().of_catalog("http://127.0.0.1:8080/stac")
    check("http://127.0.0.1:8080/a.tif", policy)
    for href in ("http://127.0.0.1:8081/a.tif", "http://10.0.0.1/a.tif", "/etc/passwd", "file:///etc/passwd", "a.tif"):
        with pytest.raises(UnsafeSourceError):
            check(href, policy)
    assert not ReadPolicy().of_catalog("s3://bucket/catalog.json").local
    assert ReadPolicy().of_catalog(tmp_path / "catalog.json").local
    assert ReadPolicy().of_catalog("memory") == ReadPolicy()


def test_roots_hold_against_dots_and_links(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "in-not"
    inside.mkdir(), outside.mkdir()
    write(outside / "a.tif"), write(inside / "b.tif")
    (inside / "link.tif").symlink_to(outside / "a.tif")
    (inside / "folder").symlink_to(outside)
    policy = ReadPolicy(roots=[inside])
    check(inside / "b.tif", policy)
    for href in (inside / "link.tif", inside / "folder/a.tif", f"{inside}/../in-not/a.tif", outside / "a.tif", "/"):
        with pytest.raises(UnsafeSourceError, match="does not lie in"):
            check(href, policy)
    with pytest.raises(UnsafeSourceError), open_dataset(inside / "link.tif", policy):
        pass


def test_names_that_resolve_to_private_addresses_are_refused_when_they_are_opened(monkeypatch):
    import socket

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    monkeypatch.setattr(requests.Session, "send", lambda *a, **k: pytest.fail("a request was made"))
    for opened in (open_dataset, lambda h: open_source(BandSource(h, item="i", asset="a"))):
        with pytest.raises(UnsafeSourceError, match=r"169\.254\.169\.254"):
            opened("https://innocent.example.org/a.tif")


def test_policies_are_checked_and_do_not_change_what_is_computed():
    with pytest.raises(ConfigError, match="lists"):
        ReadPolicy(hosts="example.org")
    with pytest.raises(ConfigError, match="bands 0"):
        Limits(bands=0)
    one, two = (BandSource("/a.tif", policy=p) for p in (ReadPolicy(), ReadPolicy(private=True)))
    assert dask.base.tokenize(one) == dask.base.tokenize(two)
    assert pickle.loads(pickle.dumps(two)) == two


# what catalogs say ----------------------------------------------------------------------------------------------------


def test_sources_know_item_asset_and_checksum(tmp_path):
    file = write(tmp_path / "a.tif")
    fields = {"file:checksum": "1220" + "AB" * 32, "file:size": 5}
    item = item_of(str(file), **fields)
    for path in (saved(tmp_path, item), write_parquet([item], tmp_path / "a.parquet")):
        (scene,) = open_catalog(path).search()
        source = scene.bands["red"]
        assert (source.item, source.asset, source.checksum, source.size) == ("i1", "red", "1220" + "ab" * 32, 5)


@pytest.mark.parametrize(
    "href", ["/vsicurl/http://x/a.tif", "GTIFF_DIR:1:/etc/a.tif", "http://127.0.0.1/a", "vrt://a.tif"]
)
def test_a_search_refuses_and_names_item_and_asset(tmp_path, href):
    catalog = open_catalog(saved(tmp_path, item_of(href)))
    with pytest.raises(UnsafeSourceError, match="item i1, asset red") as caught:
        catalog.search()
    assert caught.value.about == {"item": "i1", "asset": "red"}


def test_the_policy_of_a_catalog_reaches_its_sources(tmp_path):
    path = saved(tmp_path, item_of("http://10.0.0.5/a.tif"))
    policy = ReadPolicy(private=True)
    (scene,) = open_catalog(path, policy=policy).search()
    assert scene.bands["red"].policy == policy


def test_mtl_files_are_under_the_policy_too(tmp_path):
    item = item_of("/data/a.tif", key="B1")
    item.properties["geomm:sensors"] = ["landsat-tm-l1"]
    item.add_asset("MTL.txt", pystac.Asset("/vsicurl/http://127.0.0.1/MTL.txt"))
    with pytest.raises(UnsafeSourceError, match=r"asset MTL\.txt"):
        open_catalog(saved(tmp_path, item)).search(sensors=["landsat-tm-l1"])
    item.assets["MTL.txt"].href = "/dev/zero"
    with pytest.raises(CatalogError, match="no file of at most"):
        open_catalog(saved(tmp_path, item)).search(sensors=["landsat-tm-l1"])


@pytest.mark.parametrize("name", ["", "  "])
def test_items_without_an_id_are_refused(tmp_path, name):
    with pytest.raises(CatalogError, match="no id"):
        open_catalog(saved(tmp_path, item_of("/a.tif", name=name))).search()


def test_messages_hold_no_signatures_and_no_control_characters(tmp_path):
    source = BandSource("http://127.0.0.1/a.tif?sig=secret", item="a\x1b[31m\nb", asset="c")
    with pytest.raises(UnsafeSourceError) as caught:
        open_source(source)
    assert "secret" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


# checksums ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [("1114", "sha1"), ("1220", "sha256"), ("1340", "sha512")])
def test_checksums_are_verified_once_for_every_state_of_a_file(tmp_path, kind, monkeypatch):
    import hashlib

    path = write(tmp_path / "a.tif")
    head, name = kind
    source = BandSource(
        str(path), item="i", asset="a", checksum=head + hashlib.new(name, path.read_bytes()).hexdigest()
    )
    counted = []
    original = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: counted.append(1) or original(*a))
    for _ in range(3):
        open_source(source).close()
    assert len(counted) == 1
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ChecksumError, match=f"item i, asset a.*{name}"):
        open_source(source)


def test_sizes_and_unknown_checksums(tmp_path):
    path = write(tmp_path / "a.tif")
    open_source(BandSource(str(path), size=path.stat().st_size)).close()
    with pytest.raises(ChecksumError, match="1 bytes"):
        open_source(BandSource(str(path), size=1))
    for odd in ("d50110" + "0" * 32, "1220ab", "zz", "90e4021234567890abcdef"):
        assert parsed(odd) is None
        with pytest.warns(SourceWarning, match="not known"):
            open_source(BandSource(str(path), checksum=odd)).close()


def test_a_checksum_holds_for_a_reader_that_opened_the_file_before(tmp_path):
    from geomm.cube.read import SourceReader

    reader, path = SourceReader(), write(tmp_path / "a.tif")
    plain = BandSource(str(path))
    reader.read([plain], (0, 8), (0, 8))
    with pytest.raises(ChecksumError):
        reader.read([dataclasses.replace(plain, checksum="1220" + "0" * 64)], (0, 8), (0, 8))


# limits ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(pixels=4095), "pixels.*64 x 64.*4095"),
        (Limits(block_bytes=100), "one decoded block"),
        (Limits(tag_bytes=12), "tags"),
        (Limits(directories=1), "directories"),
    ],
)
def test_limits_refuse_before_a_pixel_is_read(tmp_path, limits, message):
    path = write(tmp_path / "a.tif", tiled=True, blockxsize=16, blockysize=16)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2], Resampling.nearest)
    open_source(BandSource(str(path), policy=ReadPolicy(limits=Limits(directories=2)))).close()
    with pytest.raises(LimitError, match=message):
        open_source(BandSource(str(path), policy=ReadPolicy(limits=limits)))


def test_windows_are_limited_and_large_blocks_are_read_one_by_one(tmp_path):
    from geomm.cube.layout import cell_of
    from geomm.cube.read import SourceReader

    path = write(tmp_path / "a.tif", tiled=True, blockxsize=16, blockysize=16)
    source = BandSource(str(path), item="i", asset="a", policy=ReadPolicy(limits=Limits(window_bytes=512)))
    assert SourceReader().read([source], (0, 10), (0, 10)).valid.any()
    with pytest.raises(LimitError, match="rows 0 to 17") as caught:
        SourceReader().read([source], (0, 17), (0, 10))
    assert caught.value.about == {"item": "i", "asset": "a", "window": "rows 0 to 17, columns 0 to 10"}
    assert cell_of((256, 256), 2, 2**28) == (512, 512)
    assert cell_of((1, 10980), 26, 2**28) == (512, 10980)
    assert cell_of((1, 2**27), 1, 2**28) == (2, 2**27)
    assert cell_of((2**15, 2**14), 1, 2**28) == (2**15, 2**14)


# names ----------------------------------------------------------------------------------------------------------------

NASTY = ["../../etc/passwd", "/abs", "..", ".", "", " ", "a/b", "a\\b", "a\0b", "con", "NUL.txt", "COM1", "lpt9.tif", "a.",
         "a ", ".hidden", "-rf", "x" * 300, "é" * 200, "a\nb", "a:b", "\u202egnp.exe", "~", "CONIN$", "a|b", "\ud800",
         "e\u0301"]  # fmt: skip


@pytest.mark.parametrize("text", NASTY)
def test_unsafe_names_become_safe(tmp_path, text):
    name = safe_name(text)
    assert name != text
    assert 0 < len(name.encode()) <= LONGEST
    (tmp_path / name).write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "text", ["S2A_32TMT_20240601_0_L2A", "LC08.tif", "a b", "Zürich", "10-20_x", "concert", "nul-1"]
)
def test_safe_names_stay(text):
    assert safe_name(text) == text


@given(st.lists(st.text(max_size=200), max_size=20))
def test_names_are_different_on_every_file_system(texts):
    names = safe_names([*texts, *(t.upper() for t in texts)])
    assert len({n.casefold() for n in names}) == len(names)
    assert all(safe_name(n) == n and "/" not in n and not n.startswith(".") for n in names)
    once = list(dict.fromkeys(texts))
    assert dict(zip(once, safe_names(once), strict=True)) == dict(zip(once[::-1], safe_names(once[::-1]), strict=True))


# documents ------------------------------------------------------------------------------------------------------------


def catalog_at(path, *links, name="c"):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"type": "Catalog", "id": name, "stac_version": "1.0.0", "description": name,
               "links": [{"rel": r, "href": h} for r, h in links]}  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def test_links_out_of_a_catalog_are_not_followed(tmp_path):
    item = tmp_path / "mine" / "a" / "i.json"
    root = catalog_at(
        tmp_path / "mine" / "catalog.json", ("child", "./a/catalog.json"), ("child", "../other/catalog.json"),
        ("child", "http://127.0.0.1:9/catalog.json"), ("item", "/etc/passwd"), ("child", "file:///etc/x.json"),
    )  # fmt: skip
    catalog_at(tmp_path / "mine" / "a" / "catalog.json", ("item", "i.json"), ("child", "../catalog.json"),
               ("child", "./catalog.json"))  # fmt: skip
    catalog_at(tmp_path / "other" / "catalog.json", ("item", "../mine/a/i.json"))
    item.write_text(json.dumps(item_of("./x.tif").to_dict(include_self_link=False, transform_hrefs=False)))
    with pytest.warns(SourceWarning, match="4 links of the catalog"):
        catalog = open_catalog(root)
    assert [i.id for i in catalog.items()] == ["i1"]
    (scene,) = catalog.search()
    assert scene.bands["red"].href == str(tmp_path / "mine" / "a" / "x.tif")


def test_depth_number_and_nesting_of_documents_are_limited(tmp_path, monkeypatch):
    for k in range(40):
        catalog_at(tmp_path / f"{k}.json", ("child", f"./{k + 1}.json"))
    catalog_at(tmp_path / "40.json")
    with pytest.raises(CatalogError, match="32 catalogs below each other"):
        open_catalog(tmp_path / "0.json")
    open_catalog(tmp_path / "20.json")
    monkeypatch.setattr(static_module, "DOCUMENTS", 10)
    with pytest.raises(CatalogError, match="more than 10 files"):
        open_catalog(tmp_path / "20.json")
    (tmp_path / "deep.json").write_text('{"type":' + "[" * 200_000 + "]" * 200_000 + "}")
    with pytest.raises(CatalogError, match="cannot be read"):
        open_catalog(tmp_path / "deep.json")
    monkeypatch.setattr(static_module, "BYTES", 100)
    with pytest.raises(CatalogError, match="at most 100 bytes"):
        open_catalog(tmp_path / "20.json")


def test_definitions_do_not_unfold_without_end(tmp_path):
    layers = ["a0: &a0 [x, x]"] + [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 12)}]" for k in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("api: https://x\n" + "\n".join(layers))
    with pytest.raises(ConfigError, match="at most 50 levels and 100 aliases"):
        open_catalog(path)
    path.write_text("api: https://x\ntitle: " + "x" * 2**20)
    with pytest.raises(ConfigError, match="too long"):
        open_catalog(path)
    assert parse_yaml("a: &x 1\nb: *x", "here") == {"a": 1, "b": 1}
    with pytest.raises(ConfigError, match="not YAML"):
        parse_yaml("!!python/object/apply:os.system ['true']", "here")
    with pytest.raises(ConfigError, match="too deep"):
        parse_yaml("[" * 100_000, "here")


def test_definitions_that_come_with_geomm_have_few_aliases():
    from geomm.catalog.definition import YAML_ALIASES, YAML_BYTES, _folders

    for file in (f for folder in _folders() if folder.is_dir() for f in folder.iterdir() if f.name.endswith(".yaml")):
        text = file.read_text()
        aliases = sum(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text))
        assert len(text) < YAML_BYTES / 10
        assert aliases < YAML_ALIASES / 2


def test_errors_while_planning_name_their_source(tmp_path):
    missing = BandSource(str(tmp_path / "gone.tif"), item="i9", asset="red")
    with pytest.raises(ReadError, match="item i9, asset red"):
        geomm.common_geobox(
            [
                geomm.Scene(
                    "i9", "generic", np.datetime64("2024-01-01").astype("O"), (9, 46, 10, 47), {}, {"red": missing}
                )
            ]
        )
