"""Check every byte of what geomm leaves on disk, whatever it is."""

from __future__ import annotations

from pathlib import Path

from geomm.archive import STAGING, Manifest, open_target
from geomm.errors import PackageError
from geomm.ledger import Ledger, Unit
from geomm.package import load_package
from geomm.retrieval import Index, verify_index
from geomm.retrieval.manifest import MODEL
from geomm.store import verify_store
from geomm.types import Progress, silent


def verify_folder(folder: str | Path, *, progress: Progress = silent) -> list[str]:
    """Compare every file of an index, a chip store, a model package or the output of a batch with its checksums.

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
    if (place / STAGING / "ledger.sqlite").is_file():
        lines = [line for _, line in verify_batch(place / STAGING, str(place), progress=progress)]
        indexes = sorted({p.parent.resolve() for p in place.glob("*/index-*/index.json")})
        return lines + [line for index in indexes for line in (*verify_index(index), *_model_of(index))]
    raise PackageError(
        "there is nothing here that has checksums",
        where=str(folder),
        fix="name an index, a chip store, a model or the output of a batch",
    )


def verify_batch(
    state: Path, root: str, *, stage: str | None = None, deep: bool = True, progress: Progress = silent
) -> list[tuple[Unit, str]]:
    """Compare the published files of a batch with their checksums.

    Args:
        state: folder of the ledger.
        root: where units are published.
        stage: only this one.
        deep: whether to read every file; else sizes are compared.
        progress: told how far it is.

    Returns:
        Units of which something is damaged or missing, with a line that says what.
    """
    target = open_target(root)
    with Ledger(state / "ledger.sqlite") as ledger:
        units = ledger.units(stage, ("DONE", "SKIPPED"))
    found: list[tuple[Unit, str]] = []
    for number, unit in enumerate(units, 1):
        lines = target.check(unit.place, Manifest.from_dict(dict(unit.manifest)), deep=deep)
        found += [(unit, f"{unit.stage} {unit.name}: {line}") for line in lines]
        progress("verify", number, len(units))
    return found


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
