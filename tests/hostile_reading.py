"""Read what hostile catalogs name, and say what came of it: run as a process of its own, whose opens are recorded.

``python hostile_reading.py LIST`` takes a JSON list of ``{catalog, href, root}`` and prints a JSON line for each.
"""

import hashlib
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from corrupt_reading import say

from geomm.catalog import BandSource, ReadPolicy, open_catalog, open_dataset
from geomm.cube.read import SourceReader
from geomm.errors import GeommError, SourceWarning

seen = []


def record(event, about):
    if event == "open" and isinstance(about[0], str | bytes):
        seen.append(about[0] if isinstance(about[0], str) else about[0].decode("utf-8", "replace"))
    elif event in ("socket.connect", "socket.getaddrinfo"):
        seen.append(f"{event} {about[1:] if event == 'socket.connect' else about[:2]}")


def pixels_of(source):
    reader = SourceReader()
    layout = reader.layout(source)
    height, width = layout.grid.shape
    pixels = reader.read([source], (0, height), (0, width))
    if pixels.error is not None:
        raise pixels.error
    whole = [np.ascontiguousarray(v).tobytes() for v in (pixels.values, pixels.valid)]
    about = repr((layout.grid, layout.nodata, layout.masked)).encode()
    return hashlib.sha256(b"".join([*whole, about])).hexdigest()


def outcome(act):
    try:
        return {"error": None, "pixels": act()}
    except GeommError as error:
        return {
            "error": type(error).__name__,
            "text": str(error),
            "about": error.about,
            "read": isinstance(error, OSError),
        }
    except Exception as error:
        return {"error": "other", "text": f"{type(error).__name__}: {error}", "about": {}, "read": False}


def main(entries):
    warnings.simplefilter("ignore", SourceWarning)
    sys.addaudithook(record)
    for number, entry in enumerate(entries):
        policy, start = ReadPolicy(roots=[entry["root"]]), time.monotonic()

        def by_catalog(entry=entry, policy=policy):
            (scene,) = open_catalog(entry["catalog"], policy=policy).search()
            return pixels_of(scene.bands["red"])

        seen.clear()
        source = BandSource(entry["href"], item="item-1", asset="red", policy=policy)
        said = {"catalog": outcome(by_catalog), "source": outcome(lambda s=source: pixels_of(s))}
        said["plain"] = outcome(lambda e=entry: open_dataset(e["href"]).close()) if entry.get("anywhere") else None
        say({"number": number, "error": None, "opened": list(seen), "seconds": time.monotonic() - start, **said})


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
