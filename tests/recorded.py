"""Records of runs over a catalog, and names that are out to do harm."""

from __future__ import annotations

import hashlib

from geomm.batch.record import STATES, RunRecord, StageCount, UnitRow

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "javascript:alert(1)",
    "</title></svg></style><base href=//evil.example>",
    "&lt;b&gt;&#60;i&#62;",
    "a\x00b\x1b[31m\r\nc\x7f",
    "\u202eTIFF\u2066\u200f",
    "\ud800 lone",
    "${x}{{7*7}}%s%n",
    "x" * 100_000,
)


def unit(k=0, state="DONE", **changes):
    about = {
        "stage": "maps",
        "unit": hashlib.sha256(str(k).encode()).hexdigest(),
        "name": f"item-{k}",
        "state": state,
        "time": "2024-06-04T10:10:31Z",
        "bbox": (9.0 + k % 7, 45.0 + k % 5, 10.0 + k % 7, 46.0 + k % 5),
        "code": "" if state == "DONE" else "E302",
        "message": "" if state == "DONE" else "a file cannot be read",
        "item": "" if state == "DONE" else f"item-{k}",
        "asset": "" if state == "DONE" else "B04",
        "window": "" if state == "DONE" else "rows 0-512, columns 512-1024",
        "attempts": 1,
        "seconds": {"read": 1.5, "model": 4.0, "write": 0.5, "other": 0.25},
        "bytes": 1000 if state == "DONE" else 0,
        "digest": hashlib.sha256(b"x").hexdigest() if state == "DONE" else "",
        "path": f"maps/item-{k}.json" if state == "DONE" else "",
        "thumbnail": "",
    }
    return UnitRow(**(about | changes))


def record_of(*units, **changes):
    stages = tuple(dict.fromkeys(u.stage for u in units))
    counts = tuple(
        StageCount(s, *(sum(u.stage == s for u in units) if n == "new" else
                        sum(u.stage == s and u.state.lower() == n for u in units)
                        for n in ("new", "done", "skipped", "quarantined", "failed")), present=3)
        for s in stages
    )  # fmt: skip
    about = {
        "run": "ab" * 16, "name": "po", "description": "Land cover.", "command": "geomm run po.yaml --out out",
        "retry": "geomm run po.yaml --out out --again", "recipe_sha256": "cd" * 32, "version": "0.1.0", "host": "node",
        "started": "2024-07-01T03:00:00Z", "finished": "2024-07-01T03:10:00+00:00", "exit_code": 3,
        "outcome": "Some failed.", "stages": counts, "retries": 2, "units": tuple(units), "resident_mb": 512.0,
    }  # fmt: skip
    return RunRecord(**(about | changes))


ALL = tuple(unit(k, state) for k, state in enumerate(STATES))
