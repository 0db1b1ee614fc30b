"""What hostile catalogs and files try: no request is made, nothing outside of the root is opened."""

import ctypes
import functools
import http.server
import json
import os
import select
import socket
import sqlite3
import threading
import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from watched import read_all

from geomm.catalog import open_catalog
from geomm.errors import UnsafeSourceError

PLACE = {"crs": "EPSG:32632", "transform": Affine(10, 0, 500000, 0, -10, 5200000)}

# {sink} is a server on this machine, {port} its port, {out} a folder outside of the root, {root} the root.
ADDRESSES = [
    "/vsicurl/{sink}/a.tif", "/vsicurl?url={sink}/a.tif", "/vsicurl?header_file={out}/secret.txt&url={sink}/a.tif",
    "/vsicurl?pc_url_signing=yes&url={sink}/a.tif", "/vsicurl_streaming/{sink}/a.tif",
    "/vsizip//vsicurl/{sink}/a.zip/a.tif", "/vsizip/{{{out}/a.zip}}/a.tif", "/vsitar/{out}/a.tar/a.tif",
    "/vsigzip/{out}/a.gz", "/vsisubfile/0_100,{out}/canary.tif", "/vsisparse/{out}/a.xml", "/vsistdin/",
    "/vsistdin?buffer_limit=1", "/vsimem/a.tif", "/vsis3/bucket/a.tif", "/vsiaz/container/a.tif", "/vsiswift/a/b.tif",
    "/vsicrypt/key=abc,file={out}/canary.tif", "/vsicached?file={out}/canary.tif", "//vsicurl/{sink}/a.tif",
    "/./vsicurl/{sink}/a.tif", "/data/../vsicurl/{sink}/a.tif", "/VSICURL/{sink}/a.tif", "file:///vsicurl/{sink}/a.tif",
    "file:///%76sicurl/{sink}/a.tif", "vrt://{out}/canary.tif", "vrt://{sink}/a.tif?bands=1", "VRT://{out}/canary.tif",
    "<VRTDataset><VRTRasterBand><SourceFilename>{out}/canary.tif</SourceFilename></VRTRasterBand></VRTDataset>",
    "<GDAL_WMS><Service name='TMS'><ServerUrl>{sink}/${{x}}</ServerUrl></Service></GDAL_WMS>",
    "GTIFF_DIR:1:{out}/canary.tif", "gtiff_dir:off:16:{out}/canary.tif", "GTIFF_RAW:{out}/canary.tif",
    'NETCDF:"{out}/a.nc":v', 'HDF5:"{out}/a.h5"://v', "HDF4_SDS:UNKNOWN:{out}/a.hdf:0", "WMS:{sink}/wms?", "WMTS:{sink}/x",
    "WCS:{sink}/x", 'STACIT:"{sink}/i.json"', "STACTA:{out}/i.json", "GTI:{out}/a.gpkg", "ZARR:{sink}/a.zarr",
    "DERIVED_SUBDATASET:LOGAMPLITUDE:{out}/canary.tif", "SENTINEL2_L1C:/vsizip/{out}/a.zip:10m:EPSG_32632",
    "NITF_IM:0:{out}/canary.tif", "PG:host=127.0.0.1 port={port}", "MEM:::DATAPOINTER=4096,PIXELS=9,LINES=9",
    "zip:{out}/a.zip!a.tif", "zip+{sink}/a.zip!/a.tif", "tar+file://{out}/a.tar!/a.tif", "gzip+file://{out}/a.gz",
    "{sink}/a.tif", "{sink}/a.tif?X-Amz-Signature=1", "http://2130706433:{port}/a.tif", "http://0x7f.1:{port}/a.tif",
    "http://017700000001:{port}/a.tif", "http://127.1:{port}/a.tif", "http://[::ffff:127.0.0.1]:{port}/a.tif",
    "http://localhost:{port}/a.tif", "http://LOCALHOST.:{port}/a.tif", "http://user:pw@127.0.0.1:{port}/a.tif",
    "http://example.org@127.0.0.1:{port}/a.tif", "http://127.0.0.1:{port}\\@example.org/a.tif",
    "http://127.0.0.1%00.example.org:{port}/a.tif", "http://127.0.0.1%2eexample.org:{port}/a.tif",
    "http://①②⑦.0.0.1:{port}/a.tif", "http://169.254.169.254/latest/meta-data/", "http://metadata.google.internal/x",
    "https:///127.0.0.1:{port}/a.tif", "http:127.0.0.1:{port}/a.tif", "ftp://127.0.0.1:{port}/a.tif",
    "gopher://127.0.0.1:{port}/_x", "data:image/tiff;base64,SUkqAA==", "s3://bucket/a.tif?header_file={out}/secret.txt",
    "{out}/canary.tif", "file://{out}/canary.tif", "{root}/../outside/canary.tif", "../outside/canary.tif",
    "file://{root}/%2e%2e/outside/canary.tif", "file://localhost{out}/canary.tif", "file://evil.example{out}/canary.tif",
    "file:{out}/canary.tif", "{root}/good.tif\0.jpg", "{root}/good.tif\n/vsicurl/{sink}", "{root}/good.tif%00",
    "{root}/good.tif?header_file={out}/secret.txt", "{root}/good.tif|layerid=0", "/dev/zero", "/dev/stdin",
    "/proc/self/environ", "/proc/self/root{out}/canary.tif", "~/secret.tif", "$HOME/secret.tif", "\\\\127.0.0.1\\a.tif",
    "C:\\a.tif", "", " ", "{root}",
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A root with a good file, a folder outside with a canary, and a server that counts who calls."""
    base = tmp_path_factory.mktemp("world").resolve()
    root, out = base / "root", base / "outside"
    root.mkdir(), out.mkdir()
    write(root / "good.tif", 7)
    write(out / "canary.tif", 4242)
    (out / "secret.txt").write_text("secret" * 100)
    with zipfile.ZipFile(out / "a.zip", "w") as file:
        file.write(out / "canary.tif", "a.tif")
    sink = socket.create_server(("127.0.0.1", 0))
    calls = []

    def listen():
        while True:
            try:
                caller, _ = sink.accept()
            except OSError:
                return
            calls.append(1)
            caller.close()

    threading.Thread(target=listen, daemon=True).start()
    yield {"root": root, "out": out, "port": sink.getsockname()[1], "calls": calls}
    sink.close()


class Watch:
    """Tells whether anything in a folder was opened, by whichever process (inotify)."""

    OPEN, ACCESS = 0x20, 0x1

    def __init__(self, folder):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.handle = self.libc.inotify_init()
        self.libc.inotify_add_watch(self.handle, os.fsencode(folder), self.OPEN | self.ACCESS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.handle)

    def noticed(self):
        return bool(select.select([self.handle], [], [], 0)[0])


def write(path, value):
    with rasterio.open(path, "w", driver="GTiff", dtype="uint16", count=1, height=64, width=64, **PLACE) as file:
        file.write(np.full((1, 64, 64), value, "uint16"))
    return path


def entry_of(world, href, number):
    record = {
        "type": "Feature", "stac_version": "1.0.0", "id": "item-1", "links": [], "bbox": [9.0, 46.8, 9.1, 47.0],
        "geometry": {"type": "Point", "coordinates": [9.0, 46.9]},
        "properties": {"geomm:sensors": ["generic"], "datetime": "2024-01-01T00:00:00Z"},
        "assets": {"red": {"href": href, "type": "image/tiff; application=geotiff"}},
    }  # fmt: skip
    path = world["root"] / f"{number}.json"
    path.write_text(json.dumps(record))
    return {"catalog": str(path), "href": href, "root": str(world["root"])}


def filled(world, text):
    sink = f"http://127.0.0.1:{world['port']}"
    return text.format(sink=sink, port=world["port"], out=world["out"], root=world["root"])


def harmless(world, result):
    """Nothing that the process opened or called lies outside."""
    forbidden = (
        str(world["out"]),
        "/etc/passwd",
        "/proc/self/environ",
        "/proc/self/root",
        "/dev/zero",
        "/dev/stdin",
        "socket.",
    )
    return [o for o in result["opened"] if any(f in o for f in forbidden)] == []


def refused(said):
    return said["read"] and "item item-1, asset red" in said["text"] and said["about"].keys() >= {"item", "asset"}


def test_the_watch_sees_what_it_should(world):
    with Watch(world["out"]) as watch:
        assert not watch.noticed()
        with rasterio.open(world["out"] / "canary.tif") as file:
            file.read()
        assert watch.noticed()


def test_hostile_addresses_are_refused(world, tmp_path):
    hrefs = [filled(world, text) for text in ADDRESSES]
    entries = [entry_of(world, href, k) for k, href in enumerate(hrefs)]
    with Watch(world["out"]) as watch:
        results = read_all(entries, tmp_path, script="hostile_reading.py")
        assert not watch.noticed()
    assert world["calls"] == []
    assert len(hrefs) >= 60
    for href, result in zip(hrefs, results, strict=True):
        assert result["error"] is None, (href, result)
        assert refused(result["catalog"]), (href, result["catalog"])
        assert refused(result["source"]), (href, result["source"])
        assert harmless(world, result), (href, result["opened"])


def vrt(world, kind):
    source = {"local": f"{world['out']}/canary.tif", "http": filled(world, "/vsicurl/{sink}/a.tif"),
              "relative": "../outside/canary.tif"}.get(kind, f"{world['out']}/secret.txt")  # fmt: skip
    relative = int(kind == "relative")
    bands = {
        "raw": f"<VRTRasterBand dataType='Byte' band='1' subClass='VRTRawRasterBand'><SourceFilename relativeToVRT='0'>"
               f"{source}</SourceFilename></VRTRasterBand>",
        "python": "<VRTRasterBand dataType='Byte' band='1' subClass='VRTDerivedRasterBand'><PixelFunctionType>f"
                  "</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionCode>"
                  f"open('{source}').read()</PixelFunctionCode></VRTRasterBand>",
    }.get(kind, f"<VRTRasterBand dataType='UInt16' band='1'><SimpleSource><SourceFilename relativeToVRT='{relative}'>"
                f"{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>")  # fmt: skip
    return (f"<VRTDataset rasterXSize='64' rasterYSize='64'><SRS>EPSG:32632</SRS><GeoTransform>500000,10,0,5200000,0,-10"
            f"</GeoTransform>{bands}</VRTDataset>").encode()  # fmt: skip


def sqlite(path, table):
    with sqlite3.connect(path) as base:
        base.execute(f"CREATE TABLE {table} (name TEXT, value TEXT)")
    base.close()


def files_that_are_no_rasters(world):
    """Write files of other kinds under the names of GeoTIFFs; yield them."""
    root, out = world["root"], world["out"]
    contents = {f"vrt-{k}": vrt(world, k) for k in ("local", "http", "relative", "raw", "python")}
    contents |= {
        "vrt-bom": b"\xef\xbb\xbf" + vrt(world, "local"),
        "vrt-after-tiff": b"II*\0\x08\0\0\0" + vrt(world, "local"),
        "wms": filled(world, "<GDAL_WMS><Service name='TMS'><ServerUrl>{sink}/${{z}}/${{x}}/${{y}}</ServerUrl></Service>"
                             "<DataWindow><SizeX>64</SizeX><SizeY>64</SizeY></DataWindow></GDAL_WMS>").encode(),
        "gti": f"<GDALTileIndexDataset><IndexDataset>{out}/a.gpkg</IndexDataset></GDALTileIndexDataset>".encode(),
        "stacit": json.dumps({"type": "FeatureCollection", "features": [], "stac_version": "1.0.0",
                              "links": [{"rel": "next", "href": filled(world, "{sink}/next")}]}).encode(),
        "kml": filled(world, "<kml><NetworkLink><Link><href>{sink}/a.kml</href></Link></NetworkLink></kml>").encode(),
        "pdf": b"%PDF-1.7\n", "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100), "netcdf": b"CDF\x01" + bytes(100),
        "gzip": b"\x1f\x8b\x08" + bytes(100), "empty": b"", "raw": bytes(64 * 64),
        "zip": (out / "a.zip").read_bytes(),
    }  # fmt: skip
    (root / "raw.hdr").write_text("ENVI\nsamples=64\nlines=64\nbands=1\ndata type=1\n")
    for name, content in contents.items():
        (root / f"{name}.tif").write_bytes(content)
        yield root / f"{name}.tif"
    for name, table in (("mbtiles", "metadata"), ("gpkg", "gpkg_contents")):
        sqlite(root / f"{name}.tif", table)
        yield root / f"{name}.tif"
    (root / "link.tif").symlink_to(out / "canary.tif")
    (root / "linked").symlink_to(out)
    os.mkfifo(root / "pipe.tif")
    (root / "folder.tif").mkdir()
    yield from (root / "link.tif", root / "linked" / "canary.tif", root / "pipe.tif", root / "folder.tif")


def test_hostile_files_are_refused(world, tmp_path):
    files = list(files_that_are_no_rasters(world))
    entries = [entry_of(world, str(path), path.stem + str(k)) for k, path in enumerate(files)]
    with Watch(world["out"]) as watch:
        results = read_all(entries, tmp_path, script="hostile_reading.py")
        assert not watch.noticed()
    assert world["calls"] == []
    assert len(files) >= 20
    for path, result in zip(files, results, strict=True):
        assert result["error"] is None, (path, result)
        assert refused(result["catalog"]), (path, result["catalog"])
        assert refused(result["source"]), (path, result["source"])
        assert harmless(world, result), (path, result["opened"])


def sidecars(world, path):
    """Write everything beside a file that GDAL might look at."""
    stem = path.with_suffix("")
    path.with_name(path.name + ".aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:4326</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform><PAMRasterBand band='1'>"
        "<NoDataValue>7</NoDataValue><Scale>99</Scale><Offset>5</Offset></PAMRasterBand></PAMDataset>"
    )
    path.with_name(path.name + ".ovr").write_bytes(vrt(world, "http"))
    write(path.with_name(path.name + ".msk"), 0)
    path.with_name(path.name + ".vrt").write_bytes(vrt(world, "local"))
    stem.with_suffix(".tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    stem.with_suffix(".wld").write_text("1\n0\n0\n-1\n0\n0\n")
    stem.with_suffix(".prj").write_text("EPSG:4326")
    stem.with_suffix(".tab").write_text('!table\n!version 300\nDefinition Table\n  File "good.tif"\n  Type "RASTER"\n')
    stem.with_suffix(".RPB").write_text("satId = 'x';\n")
    stem.with_suffix(".IMD").write_text("version = 'x';\n")
    path.with_name(f"{stem.name}_RPC.TXT").write_text("LINE_OFF: 1\nSAMP_OFF: 1\n")
    path.with_name(f"{stem.name}_MTL.txt").write_text("GROUP = L1_METADATA_FILE\nEND\n")


def test_sidecars_change_nothing(world, tmp_path):
    """They do change it where they are read, which is asserted first."""
    plain, beside = write(world["root"] / "alone.tif", 7), write(world["root"] / "beside.tif", 7)
    for path in (plain, beside):
        with rasterio.open(path, "r+") as file:
            file.build_overviews([2], Resampling.nearest)
    sidecars(world, beside)
    with rasterio.open(beside) as file:
        assert file.nodata == 7
    entries = [entry_of(world, str(path), path.stem) for path in (plain, beside)]
    with Watch(world["out"]) as watch:
        one, two = read_all(entries, tmp_path, script="hostile_reading.py")
        assert not watch.noticed()
    assert world["calls"] == []
    assert one["catalog"]["pixels"] == two["catalog"]["pixels"] == one["source"]["pixels"] == two["source"]["pixels"]
    assert one["catalog"]["error"] is None


def test_gdals_own_names_are_refused_without_a_policy_too(world, tmp_path):
    """A caller who opens a file by hand is protected from names, not from files of its own."""
    named = [t for t in ADDRESSES if t.startswith(("/vsi", "<", "vrt", "GTIFF", "gtiff", "zip", "WMS", "MEM", "/dev"))]
    entries = [{**entry_of(world, filled(world, t), f"plain-{k}"), "anywhere": True} for k, t in enumerate(named)]
    with Watch(world["out"]) as watch:
        results = read_all(entries, tmp_path, script="hostile_reading.py")
        assert not watch.noticed()
    assert world["calls"] == []
    for text, result in zip(named, results, strict=True):
        assert result["plain"]["error"] in ("UnsafeSourceError", "ReadError"), (text, result["plain"])


def test_a_remote_catalog_reaches_its_own_host_and_nothing_else(world):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(world["root"]))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        for number, href in enumerate(("file://{out}/canary.tif", "{out}/canary.tif", "{sink}/a.tif", "good.tif")):
            entry_of(world, filled(world, href), f"remote-{number}")
            catalog = open_catalog(f"http://127.0.0.1:{server.server_port}/remote-{number}.json")
            if "://" in filled(world, href):
                with pytest.raises(UnsafeSourceError, match="item item-1, asset red"):
                    catalog.search()
                continue
            (scene,) = catalog.search()  # paths are those of the server
            assert scene.bands["red"].href.startswith(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
    assert world["calls"] == []
