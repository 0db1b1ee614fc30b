"""Connect to a Dask cluster."""

from __future__ import annotations

from typing import Any

from geomm.errors import ConfigError, DependencyError


def connect(address: str) -> Any:
    """Return a client of a Dask scheduler.

    Args:
        address: such as ``tcp://host:8786``.

    Raises:
        ConfigError: there is no address, or nobody answers.
        DependencyError: dask.distributed is not installed.
    """
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise DependencyError("dask.distributed is not installed", fix="uv pip install 'geomm[cluster]'") from error
    if "://" not in address:
        raise ConfigError(
            "the scheduler is a number of workers or an address", where=address, fix="--scheduler 4, or tcp://host:8786"
        )
    try:
        return Client(address, timeout="10s")
    except (OSError, TimeoutError) as error:
        raise ConfigError(
            "the scheduler does not answer",
            where=address,
            why=str(error),
            fix="check that `dask scheduler` runs there, or start processes here: --scheduler local for `geomm run`, a "
            "number of workers for `geomm predict`",
        ) from error
