"""Check the installation: what is there, what is missing, what to do about it.

``examine`` looks at libraries and at the machine; ``self_test`` takes a made-up scene from files to a map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from geomm.doctor.finding import Finding, Status
from geomm.doctor.geodata import check_environment, check_gdal, check_hardening, check_proj, check_vectors
from geomm.doctor.machine import check_disk, check_folder, check_gpu, check_memory, check_temporary, check_threads
from geomm.doctor.packages import check_dask, check_packages

__all__ = ["Finding", "Status", "examine", "self_test"]

_CHECKS: tuple[tuple[str, Callable[[], Finding]], ...] = (
    ("gdal", check_gdal),
    ("gdal hardening", check_hardening),
    ("vector files", check_vectors),
    ("proj", check_proj),
    ("environment", check_environment),
    ("dask", check_dask),
    ("gpu", check_gpu),
    ("threads", check_threads),
    ("memory", check_memory),
    ("disk here", check_disk),
    ("folder here", check_folder),
    ("temporary files", check_temporary),
)


def examine() -> Iterator[Finding]:
    """Yield findings about Python, libraries, GDAL, PROJ, dask, GPU, memory and disk; nothing is changed."""
    yield from check_packages()
    for name, check in _CHECKS:
        yield _guarded(name, check)


def self_test() -> Iterator[Finding]:
    """Take a made-up scene from GeoTIFFs to a map; see :mod:`geomm.doctor.selftest`."""
    try:
        from geomm.doctor.selftest import run_stages
    except ImportError as error:
        yield Finding("test", "fail", f"cannot begin: {error}", "install what is missing above, then look again")
        return
    yield from run_stages()


def _guarded(name: str, check: Callable[[], Finding]) -> Finding:
    """Run a check; whatever a broken installation raises is a finding too."""
    try:
        return check()
    except ImportError as error:
        return Finding(name, "note", f"not checked: {error}", "install what is missing above, then look again")
    except Exception as error:
        text = f"the check ended with {type(error).__name__}: {error}"[:300]
        return Finding(name, "fail", text, "install geomm again in a new environment; if it stays, report this line")
