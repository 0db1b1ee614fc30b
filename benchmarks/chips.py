"""Aligned chips per second: geomm, torchgeo, odc-stac with xbatcher, a chip store, and what decoding alone allows.

Thirteen bands of three sensors and a label, 256 x 256 pixels: Sentinel-2 at 10 and 20 m, Sentinel-1 on an offset grid,
thermal in the neighbouring UTM zone; noise on smooth fields, which compresses 1.3 to 1.6 times. Every case runs in a
process of its own, in turn, ROUNDS times (default 3; ours twice as often); ratios are of medians. SIDE (default 8192)
is the height and width of the 10 m grid, all of which geomm and the store cut; PEERS (default 2048) that of the part
which peers cut in grid order. Batches of 8. The clock starts when the data set is open and stops with the last batch;
files are in the page cache.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

SIDE, PEERS = int(os.environ.get("SIDE", "8192")), int(os.environ.get("PEERS", "2048"))
CHIP, ROUNDS = 256, int(os.environ.get("ROUNDS", "3"))
RANDOM = 40  # chips in random order that a peer cuts; geomm and the store cut all
FIRST = (SIDE - PEERS) // 2048 * 1024  # row and column where the peers' part begins
EPOCHS = 4  # times that a store is read
LEFT, TOP = 600000.0, 5200020.0
TEN, TWENTY = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12")
# name: CRS, pixel size, corner, dtype, block, predictor, mean, spread of the noise
LAYERS = {
    **dict.fromkeys(TEN, ("EPSG:32632", 10.0, (LEFT, TOP), "uint16", 1024, 2, 1500, 25)),
    **dict.fromkeys(TWENTY, ("EPSG:32632", 20.0, (LEFT, TOP), "uint16", 1024, 2, 2500, 25)),
    **dict.fromkeys(("VV", "VH"), ("EPSG:32632", 10.0, (LEFT - 3113.7, TOP + 4713.9), "float32", 512, 3, 0.1, 0.03)),
    "B10": ("EPSG:32633", 30.0, (136000.0, 5228000.0), "uint16", 256, 2, 44000, 30),
    "class": ("EPSG:32632", 10.0, (LEFT, TOP), "uint8", 512, 1, 5, 0),
}
SENSORS = {
    "sentinel2-l1c": TEN + TWENTY,
    "sentinel1-rtc": ("VV", "VH"),
    "landsat-tirs-l1": ("B10",),
    "landcover": ("class",),
}
KIND = {b: s for s, bands in SENSORS.items() for b in bands}


def clock() -> float:
    """Seconds; what was imported before is not left to be looked through while a case runs."""
    gc.collect()
    return time.perf_counter()


def write_scenes(folder: Path) -> None:
    """Write every layer as a tiled, compressed GeoTIFF."""
    import rasterio
    from affine import Affine
    from scipy.ndimage import zoom

    generator = np.random.default_rng(0)
    for name, (crs, size, (left, top), dtype, block, predictor, mean, noise) in LAYERS.items():
        wide = {10.0: SIDE + (1024 if name in ("VV", "VH") else 0), 20.0: SIDE // 2, 30.0: SIDE // 3 + 1600}[size]
        smooth = zoom(generator.normal(size=(wide // 64 + 2,) * 2), 64, order=1)[:wide, :wide]
        values = mean * (1 + 0.3 * smooth) + noise * generator.standard_normal((wide, wide), dtype=np.float32)
        values = np.clip(values, 1, 10) if dtype == "uint8" else np.abs(values) + (dtype == "uint16")
        with rasterio.open(
            folder / f"s_{name}.tif", "w", driver="GTiff", height=wide, width=wide, count=1, dtype=dtype, crs=crs,
            nodata=0, transform=Affine(size, 0, left, 0, -size, top), tiled=True, blockxsize=block, blockysize=block,
            compress="deflate", predictor=predictor, num_threads="all_cpus",
        ) as file:  # fmt: skip
            file.write(values.astype(dtype), 1)


def grid_origins(first: int = 0, side: int = SIDE) -> list[tuple[int, int]]:
    """Rows and columns of the chips of a square, by default the whole grid."""
    ends = range(first, first + side, CHIP)
    return [(y, x) for y in ends for x in ends]


def peer_origins() -> list[tuple[int, int]]:
    """Rows and columns of the chips that peers cut in grid order."""
    return grid_origins(FIRST, PEERS)


def random_origins(count: int) -> list[tuple[int, int]]:
    """Rows and columns drawn at random."""
    places = np.random.default_rng(7).integers(0, SIDE - CHIP, (count, 2))
    return [(int(y), int(x)) for y, x in places]


def cube_of(folder: Path, reader=None):
    """The lazy cube."""
    from affine import Affine
    from odc.geo.geobox import GeoBox

    import geomm

    grid = GeoBox((SIDE, SIDE), Affine(10, 0, LEFT, 0, -10, TOP), "EPSG:32632")
    scenes = geomm.open_catalog(folder / "catalog").search(sentinel2_offset=0)
    streams = {"optical": "sentinel2-l1c", "sar": "sentinel1-rtc", "thermal": "landsat-tirs-l1", "label": "landcover"}
    modalities = {n: geomm.Modality(s, SENSORS[s]) for n, s in streams.items()}
    return geomm.load_cube(scenes, grid, modalities, reader=reader)


def reader_of(folder: Path, origins, counting=None):
    """The reader of chips at some places."""
    from geomm.chipping import ChipReader, Target
    from geomm.chips import Chip
    from geomm.types import Window

    windows = [Window(y, x, CHIP, CHIP) for y, x in origins]
    chips = [Chip(k, w, w) for k, w in enumerate(windows)]
    target = Target("label", tuple(range(1, 11)))
    return ChipReader(cube_of(folder, counting), chips, ["optical", "sar", "thermal"], target=target)


def counted():
    """A reader of sources that counts what it decodes; its kind in geomm.testing imports torch."""
    from collections import Counter

    from geomm.cube.read import SourceReader

    class Counting(SourceReader):
        def __init__(self):
            super().__init__()
            self.blocks = Counter()

        def decode(self, source, indexes, cell, **options):
            self.blocks[source.href, cell] += 1
            return super().decode(source, indexes, cell, **options)

    return Counting()


def run_geomm(folder: Path, shuffle: int) -> dict:
    """Stream all chips."""
    counting = counted()
    reader = reader_of(folder, grid_origins(), counting)
    start, first, count = clock(), None, 0
    for arrays in reader.stream(8, shuffle=shuffle):
        first = first or time.perf_counter() - start
        count += len(arrays.chips)
    decodes = sum(counting.blocks.values()) / len(counting.blocks)
    return {"chips": count, "seconds": time.perf_counter() - start, "first": first, "decodes": decodes}


def geomm_grid(folder: Path) -> dict:
    """Grid order."""
    return run_geomm(folder, 0)


def geomm_random(folder: Path) -> dict:
    """Shuffled, eight areas open at a time."""
    return run_geomm(folder, 8)


def decode_all(folder: Path, decode) -> dict:
    """Decode the cells that the grid order needs, each once, in two threads; ``decode`` gets file, cell and dtype."""
    import rasterio

    from geomm.chips import ChipOrder

    reader = reader_of(folder, grid_origins())
    windows = [v.window for v in ChipOrder(tuple(reader.chips), reader.shape).epoch(0).visits]
    cells = [key for source in reader.sources.values() for key in source.expect(windows, lasting=False)]
    with rasterio.Env(GDAL_CACHEMAX=16 * 2**20), ThreadPoolExecutor(2) as pool:
        start = clock()
        list(pool.map(lambda key: decode(key[0][0], key[2]), cells))
        return {"chips": len(reader), "seconds": time.perf_counter() - start}


class Memory(threading.local):
    """Files and memory that a thread uses again."""

    def __init__(self):
        self.files, self.memory = {}, {}

    def take(self, path: str, cell) -> tuple:
        """Return the open file and where to decode to."""
        import rasterio

        file = self.files.get(path) or self.files.setdefault(path, rasterio.open(path))
        shape = (1, cell[1] - cell[0], cell[3] - cell[2], file.dtypes[0])
        return file, self.memory.setdefault(shape, np.empty(shape[:3], shape[3]))


def limit(folder: Path) -> dict:
    """By GDAL."""
    from rasterio.windows import Window

    own = Memory()

    def decode(path: str, cell) -> None:
        file, out = own.take(path, cell)
        file.read([1], window=Window(cell[2], cell[0], cell[3] - cell[2], cell[1] - cell[0]), out=out)

    return decode_all(folder, decode)


def limit_tiles(folder: Path) -> dict:
    """By libdeflate and compiled predictors, as geomm does."""
    from geomm.cube.tiff import tiles_of

    own = Memory()

    def decode(path: str, cell) -> None:
        file, out = own.take(path, cell)
        assert tiles_of(file, Path(path)).read(file, (1,), cell, out)

    return decode_all(folder, decode)


def run_torchgeo(folder: Path, origins, workers: int) -> dict:
    """An IntersectionDataset at given places, through a DataLoader."""
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples

    def dataset(bands, *, image=True):
        about = {
            "filename_glob": f"s_{bands[0]}.tif",
            "filename_regex": r"s_(?P<band>\w+)\.tif",
            "separate_files": len(bands) > 1,
            "all_bands": bands if len(bands) > 1 else (),
            "is_image": image,
        }
        kind = type(KIND[bands[0]], (RasterDataset,), about)
        return kind(str(folder), res=10.0, crs=None)

    parts = [dataset(SENSORS[s], image=s != "landcover") for s in SENSORS]
    together = parts[0] & parts[1] & parts[2] & parts[3]
    when = together.index.index[0]
    when = slice(when.left, when.right)
    places = [(LEFT + x * 10, TOP - (y + CHIP) * 10) for y, x in origins]
    sampler = [(slice(x, x + CHIP * 10), slice(y, y + CHIP * 10), when) for x, y in places]
    start, count = clock(), 0
    for batch in DataLoader(together, batch_size=8, sampler=sampler, num_workers=workers, collate_fn=stack_samples):
        assert batch["image"].shape[1:] == (13, CHIP, CHIP)
        count += len(batch["image"])
    return {"chips": count, "seconds": time.perf_counter() - start}


def torchgeo_grid(folder: Path) -> dict:
    """No worker process."""
    return run_torchgeo(folder, peer_origins(), 0)


def torchgeo_grid_2(folder: Path) -> dict:
    """Two worker processes."""
    return run_torchgeo(folder, peer_origins(), 2)


def torchgeo_random(folder: Path) -> dict:
    """No worker process."""
    return run_torchgeo(folder, random_origins(RANDOM), 0)


def torchgeo_random_2(folder: Path) -> dict:
    """Two worker processes."""
    return run_torchgeo(folder, random_origins(RANDOM), 2)


def odc(folder: Path, y: int, x: int, size: int, chunks=None):
    """Load a square with odc-stac, every sensor as its users would."""
    import odc.stac
    import pystac
    import xarray as xr
    from affine import Affine
    from odc.geo.geobox import GeoBox

    items = list(pystac.Catalog.from_file(folder / "catalog" / "catalog.json").get_items(recursive=True))
    grid = GeoBox((size, size), Affine(10, 0, LEFT + x * 10, 0, -10, TOP - y * 10), "EPSG:32632")
    parts = []
    for bands in SENSORS.values():
        options = {"resampling": "nearest" if bands == ("class",) else "bilinear", "chunks": chunks}
        mine = [i for i in items if all(b in i.assets for b in bands)]
        parts.append(odc.stac.load(mine, bands=list(bands), geobox=grid, **options).isel(time=0, drop=True))
    return xr.merge(parts, compat="override")


def stacked(part) -> np.ndarray:
    """What a model takes: 13 bands as float32, beside the label."""
    assert part["class"].shape == (CHIP, CHIP)
    return np.stack([part[b].to_numpy() for b in (*TEN, *TWENTY, "VV", "VH", "B10")]).astype("float32")


def odc_slices(folder: Path) -> dict:
    """The area at once, then slices."""
    start = clock()
    area = odc(folder, FIRST, FIRST, PEERS, {"y": 2048, "x": 2048}).compute()
    for y, x in peer_origins():
        stacked(area.isel(y=slice(y - FIRST, y - FIRST + CHIP), x=slice(x - FIRST, x - FIRST + CHIP)))
    return {"chips": len(peer_origins()), "seconds": time.perf_counter() - start}


def odc_xbatcher(folder: Path) -> dict:
    """The area loaded in chunks, then xbatcher, as its documentation advises."""
    import xbatcher

    start = clock()
    area = odc(folder, FIRST, FIRST, PEERS, {"y": 1024, "x": 1024}).load()
    count = sum(stacked(b).shape[0] == 13 for b in xbatcher.BatchGenerator(area, {"y": CHIP, "x": CHIP}))
    return {"chips": count, "seconds": time.perf_counter() - start}


def odc_random(folder: Path) -> dict:
    """Each chip by itself."""
    start = clock()
    for y, x in random_origins(RANDOM):
        stacked(odc(folder, y, x, CHIP))
    return {"chips": RANDOM, "seconds": time.perf_counter() - start}


def build(folder: Path, name: str, *, compress: bool) -> dict:
    """Write a store of all chips.

    The one before it is emptied afterwards, not removed: for minutes, ext4 looks through the inodes of what was removed
    whenever it makes a file, which is no part of building.
    """
    from geomm.store import StorePart, write_store

    reader = reader_of(folder, grid_origins())
    start = clock()
    write_store([StorePart("s", reader)], folder / "new", compress=compress)
    seconds = time.perf_counter() - start
    if (folder / name).exists():
        for path in (folder / name).rglob("*"):
            if path.is_file():
                os.truncate(path, 0)
        (folder / name).rename(folder / f"emptied-{time.time()}")
    (folder / "new").rename(folder / name)
    return {"chips": len(reader), "seconds": seconds}


def store_build(folder: Path) -> dict:
    """Pixels as they are."""
    return build(folder, "store", compress=False)


def store_build_lz4(folder: Path) -> dict:
    """Imagery in LZ4."""
    return build(folder, "store-lz4", compress=True)


def draw(folder: Path, epochs: int = EPOCHS) -> dict:
    """Random order out of a store, checksums on."""
    from geomm.store import StoredChips

    start = clock()
    StoredChips(folder).read([17])
    first = time.perf_counter() - start
    store = StoredChips(folder)
    start = clock()
    count = sum(len(b.index) for epoch in range(epochs) for b in store.stream(8, shuffle=1, epoch=epoch))
    return {"chips": count, "seconds": time.perf_counter() - start, "first": first}


def store_random(folder: Path) -> dict:
    """Out of the page cache."""
    return draw(folder / "store")


def store_random_lz4(folder: Path) -> dict:
    """Out of the page cache."""
    return draw(folder / "store-lz4")


def store_cold(folder: Path) -> dict:
    """Out of a store that is not in the page cache: as fast as the disk, whatever cache lies behind that."""
    for path in (folder / "store").rglob("c/*/**/*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return draw(folder / "store", epochs=1)


def decode_store(folder: Path) -> dict:
    """Decode every chip of a store out of memory into batches, in two threads, nothing else."""
    from geomm.store import StoredChips
    from geomm.store.plan import ARRAYS
    from geomm.store.shard import SHARD, ShardReader

    store, own = StoredChips(folder), threading.local()
    data = [
        [ShardReader(a.path(folder / ARRAYS, k // SHARD)).chunk(k % SHARD) for a in store.arrays]
        for k in range(len(store))
    ]  # fmt: skip

    def decode(batch) -> None:
        if not hasattr(own, "out"):
            own.out = [np.empty((8, *a.shape), a.dtype) for a in store.arrays]
        for k, chip in enumerate(batch):
            for spec, chunk, out in zip(store.arrays, chip, own.out, strict=True):
                spec.decode(chunk, out[k])

    with ThreadPoolExecutor(2) as pool:
        start = clock()
        list(pool.map(decode, [data[k : k + 8] for k in range(0, len(data), 8)] * EPOCHS))
        return {"chips": len(data) * EPOCHS, "seconds": time.perf_counter() - start}


def store_limit(folder: Path) -> dict:
    """Checksums, and a copy."""
    return decode_store(folder / "store")


def store_bare(folder: Path) -> dict:
    """Read every chip of the store into batches and compare its checksum: bare system calls, two threads."""
    from geomm.store import StoredChips
    from geomm.store.codec import checksum
    from geomm.store.plan import ARRAYS
    from geomm.store.shard import SHARD

    folder, own = folder / "store", threading.local()
    store, files = StoredChips(folder), {}
    for a, spec in enumerate(store.arrays):
        for shard in store.shards:
            files[a, shard] = file = os.open(spec.path(folder / ARRAYS, shard), os.O_RDONLY)
            index = os.pread(file, SHARD * 16, os.fstat(file).st_size - SHARD * 16 - 4)
            for slot, (offset, size) in enumerate(np.frombuffer(index, "<u8").reshape(SHARD, 2).tolist()):
                files[a, shard, slot] = offset, size

    def read(batch) -> None:
        if not hasattr(own, "out"):
            own.out, own.seal = [np.empty((8, *a.shape), a.dtype) for a in store.arrays], bytearray(4)
        for k, number in enumerate(batch):
            shard, slot = divmod(number, SHARD)
            for a, spec in enumerate(store.arrays):
                offset, size = files[a, shard, slot]
                if spec.codec == "none":
                    out = own.out[a][k].reshape(-1).view(np.uint8)
                    os.preadv(files[a, shard], [out, own.seal], offset)
                    assert checksum(out) == own.seal
                else:
                    spec.decode(os.pread(files[a, shard], size, offset), own.out[a][k])

    orders = [np.random.default_rng(epoch).permutation(store.total).tolist() for epoch in range(EPOCHS)]
    batches = [order[k : k + 8] for order in orders for k in range(0, store.total, 8)]
    with ThreadPoolExecutor(2) as pool:
        start = clock()
        list(pool.map(read, batches))
        return {"chips": store.total * EPOCHS, "seconds": time.perf_counter() - start}


def store_limit_lz4(folder: Path) -> dict:
    """Checksums, and decompressing."""
    return decode_store(folder / "store-lz4")


def bands_build(folder: Path) -> None:
    """Write the grid as zarr arrays by sensor, chunked band by band, as xarray users lay it out."""
    import zarr

    group = zarr.open_group(folder / "bands.zarr", mode="w")
    for name, node in cube_of(folder).children.items():
        data = node["data"].isel(time=0).to_numpy()
        array = group.create_array(
            name,
            shape=data.shape,
            chunks=(1, CHIP, CHIP),
            shards=(1, min(2048, SIDE), min(2048, SIDE)),
            dtype=data.dtype,
        )
        array[:] = data


def bands_random(folder: Path) -> dict:
    """Random order out of the store by bands, with zarr-python."""
    import zarr

    if not (folder / "bands.zarr").exists():
        bands_build(folder)
    group = zarr.open_group(folder / "bands.zarr", mode="r")
    arrays = [group[n] for n in ("optical", "sar", "thermal", "label")]
    order = np.random.default_rng(3).permutation(len(grid_origins()))[:256]
    start = clock()
    for k in order:
        y, x = grid_origins()[k]
        for array in arrays:
            array[:, y : y + CHIP, x : x + CHIP]
    return {"chips": len(order), "seconds": time.perf_counter() - start}


LIVE = [limit, limit_tiles, geomm_grid, geomm_random]
STORE = [
    store_build,
    store_cold,
    store_limit,
    store_bare,
    store_random,
    store_build_lz4,
    store_limit_lz4,
    store_random_lz4,
]
OWN = [*LIVE, *STORE]  # what is built is not in the page cache: the limits read it all into memory before the others do
TORCHGEO = [torchgeo_grid, torchgeo_grid_2, torchgeo_random, torchgeo_random_2]
OTHERS = [*TORCHGEO, odc_slices, odc_xbatcher, odc_random, bands_random]
CASES = OWN + OTHERS


def one(name: str, folder: Path) -> None:
    """Run a case in this process and print its figures."""
    warnings.simplefilter("ignore")
    result = {f.__name__: f for f in CASES}[name](folder)
    lines = Path("/proc/self/status").read_text().splitlines()
    result["peak"] = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    print("RESULT " + json.dumps(result))


def measure(name: str, folder: Path) -> dict:
    """Run a case in a process of its own."""
    command = [sys.executable, __file__, name, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise RuntimeError(f"{name}: {run.stderr[-800:]}")
    result = json.loads(lines[0][7:])
    return {**result, "rate": result["chips"] / result["seconds"]}


def main() -> None:
    """Print every case and the ratios between them."""
    import geomm

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_scenes(folder)
        geomm.build_catalog(folder, folder / "catalog", sensors=tuple(SENSORS), datetime="2023-06-01")
        for case in (geomm_grid, store_build, store_build_lz4, bands_random):
            measure(case.__name__, folder)  # compiles the kernels, fills the page cache
        found = {case.__name__: [] for case in CASES}
        for case in (OWN + OTHERS + OWN) * ROUNDS:  # ours are fast: twice as often, for the noise of a shared machine
            found[case.__name__].append(measure(case.__name__, folder))
    rate = {name: statistics.median(r["rate"] for r in runs) for name, runs in found.items()}
    print(f"{(SIDE // CHIP) ** 2} chips of {CHIP} x {CHIP} pixels, 13 bands and a label; medians of {ROUNDS} rounds")
    for case in CASES:
        mine = found[case.__name__]
        middle = {k: statistics.median(m[k] for m in mine) for k in mine[0]}
        extra = [f"peak {middle['peak']:5.0f} MiB"]
        extra += [f"first batch {middle['first']:.3f} s"] if "first" in middle else []
        extra += [f"decoded {middle['decodes']:.2f} times each"] if "decodes" in middle else []
        print(f"  {case.__name__:18} {rate[case.__name__]:7.1f} chips/s  {', '.join(extra)}")
    peers = {
        "torchgeo grid": max(rate["torchgeo_grid"], rate["torchgeo_grid_2"]),
        "torchgeo random": max(rate["torchgeo_random"], rate["torchgeo_random_2"]),
        "odc-stac grid": max(rate["odc_slices"], rate["odc_xbatcher"]),
    }
    for text, a, b in (
        ("live grid against torchgeo's best", rate["geomm_grid"], peers["torchgeo grid"]),
        ("live grid against odc-stac's best", rate["geomm_grid"], peers["odc-stac grid"]),
        ("live grid against decoding alone, by GDAL", rate["geomm_grid"], rate["limit"]),
        ("live grid against decoding alone, by libdeflate", rate["geomm_grid"], rate["limit_tiles"]),
        ("live random against torchgeo's best random", rate["geomm_random"], peers["torchgeo random"]),
        ("live random against live grid", rate["geomm_random"], rate["geomm_grid"]),
        ("store random against torchgeo's best random", rate["store_random"], peers["torchgeo random"]),
        ("store random against zarr by bands", rate["store_random"], rate["bands_random"]),
        ("store random against bare reads and checksums", rate["store_random"], rate["store_bare"]),
        ("store random against decompressing LZ4 alone", rate["store_random"], rate["store_limit_lz4"]),
        ("store random against checksums and a copy in memory", rate["store_random"], rate["store_limit"]),
        ("building the store against live grid", rate["store_build"], rate["geomm_grid"]),
        ("LZ4: store random against zarr by bands", rate["store_random_lz4"], rate["bands_random"]),
        ("LZ4: store random against decompressing alone", rate["store_random_lz4"], rate["store_limit_lz4"]),
        ("LZ4: building the store against live grid", rate["store_build_lz4"], rate["geomm_grid"]),
    ):
        print(f"  {text:52} {a / b:6.2f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        one(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
