"""Modules of the user that are imported with geomm, in every process: what they register is there by its name.

``GEOMM_PLUGINS=my_sensors,my_fusion`` names them, for the command line, workers of batches and of Dask alike.
"""

from __future__ import annotations

import os
from importlib import import_module

VARIABLE = "GEOMM_PLUGINS"
"""Environment variable with the names of modules, by commas."""


def import_plugins() -> None:
    """Import the modules that the environment names; nothing where it names none.

    Raises:
        ConfigError: there is no such module, or it cannot be imported.
    """
    for name in filter(None, map(str.strip, os.environ.get(VARIABLE, "").split(","))):
        try:
            import_module(name)
        except Exception as error:
            from geomm.errors import ConfigError

            raise ConfigError(
                "a plug-in cannot be imported",
                where=f"{VARIABLE}, {name}",
                why=f"{type(error).__name__}: {error}",
                fix="name modules that Python finds: install the package, or put its folder on PYTHONPATH",
            ) from error
