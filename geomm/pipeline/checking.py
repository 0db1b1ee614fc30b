"""Check every byte of what geomm leaves on disk, whatever it is."""

from __future__ import annotations

from pathlib import Path

from geomm.errors import PackageError
from geomm.package import load_package
from geomm.retrieval import Index, verify_index
from geomm.retrieval.manifest import MODEL
from geomm.store import verify_store
from geomm.types import Progress, silent


def verify_folder(folder: str | Path, *, progress: Progress = silent) -> list[str]:
    """Compare every file of an index, a chip store or a model package with its checksums.

    Args:
        folder: any of them.
        progress: told how far it is.

    Returns:
        What is damaged or missing, one line each.

    Raises:
        PackageError: the folder is none of them, or the record that holds its checksums is itself damaged.
    """
    place = Path(folder)
    if (place / "index.json").is_file():
        return [*verify_index(place), *_model_of(place)]
    if (place / "mlm.json").is_file():
        return _package(place)
    if (place / "plan.json").is_file():
        return verify_store(place, progress=progress)
    raise PackageError(
        "there is nothing here that has checksums", where=str(folder), fix="name an index, a chip store or a model"
    )


def _model_of(folder: Path) -> list[str]:
    """Return what is wrong with the model that an index keeps."""
    try:
        about = Index.open(folder).about
    except PackageError:
        return []  # said already
    if "model" not in about:
        return []
    if not (folder / MODEL).is_dir():
        return [f"{folder / MODEL}: the model is missing"]
    found = _package(folder / MODEL)
    if not found and load_package(folder / MODEL).sha256 != about["model_sha256"]:
        found = [f"{folder / MODEL}: it is not the model of the vectors"]
    return found


def _package(folder: Path) -> list[str]:
    """Return what is wrong with a model package: opening it compares its files."""
    try:
        load_package(folder)
    except PackageError as error:
        return [f"{error.where}: {error.why or error}"]
    return []
