"""Read many files one by one, and say how each went: run as a process of its own, which may crash or hang.

``python corrupt_reading.py LIST`` takes a JSON list of ``{path, checksum}`` and prints a JSON line before and after each.
"""

import datetime as dt
import hashlib
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from geomm.catalog import BandSource, Scene
from geomm.cube import common_geobox, load_cube
from geomm.errors import GeommError, SourceWarning


def peak():
    """Greatest resident memory since :func:`lower`, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def lower():
    Path("/proc/self/clear_refs").write_text("5")


def scene_of(entry):
    source = BandSource(entry["path"], item="item-1", asset="red", checksum=entry.get("checksum", ""))
    return Scene(
        "item-1", "generic", dt.datetime(2024, 6, 1, tzinfo=dt.UTC), (8.99, 46.8, 9.1, 47.0), {}, {"red": source}
    )


def read(entry):
    scene = scene_of(entry)
    grid = common_geobox([scene])
    window = grid[: min(grid.shape[0], 256), : min(grid.shape[1], 256)]
    cube = load_cube([scene], window, errors="raise")
    data = cube["generic"].to_dataset()["data"].compute(scheduler="synchronous").to_numpy()
    return hashlib.sha256(np.ascontiguousarray(data)).hexdigest()


def say(result):
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def main(entries):
    warnings.simplefilter("ignore", SourceWarning)
    for number, entry in enumerate(entries):
        say({"number": number})
        lower()
        base, start = peak(), time.monotonic()
        said = {"number": number, "pixels": None, "error": None}
        try:
            said["pixels"] = read(entry)
        except GeommError as error:
            said |= {"error": type(error).__name__, "text": str(error), "about": error.about}
        except Exception as error:
            said |= {"error": "other", "text": f"{type(error).__name__}: {error}", "about": {}}
        said |= {"seconds": time.monotonic() - start, "grown": peak() - base}
        say(said)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
