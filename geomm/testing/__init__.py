"""For tests and benchmarks only: synthetic scenes of any sensor, counting readers, tasks whose best answer is known."""

from __future__ import annotations

from geomm.testing.scenes import (
    ORIGIN,
    CountingReader,
    IdentityDecoder,
    full_tile,
    scene_without_files,
    stored_field,
    write_scene,
)

__all__ = [
    "ORIGIN",
    "CountingReader",
    "IdentityDecoder",
    "full_tile",
    "scene_without_files",
    "stored_field",
    "write_scene",
]
