"""Train a recipe's model into a run folder: everything that is needed to go on, to judge it and to use it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from geomm._version import __version__
from geomm.config import RunConfig
from geomm.cube import geobox_of
from geomm.errors import OutputError, PackageError
from geomm.pipeline.learn import Variant, check, train_one
from geomm.pipeline.recipe import contract_of
from geomm.pipeline.sites import Fold, Site, labels_of, load_sites, make_folds
from geomm.pipeline.sources import local_folder
from geomm.pipeline.texts import text_identity
from geomm.types import Progress, silent
from geomm.whole import write_whole

if TYPE_CHECKING:
    from geomm.train import Fitted

RECIPE, RECORD = "recipe.yaml", "run.json"
"""Names of the recipe and of the record of a run."""


def train(config: RunConfig, out: str | Path, *, progress: Progress = silent) -> Path:
    """Train the fused model of a recipe, once per seed, on the training pixels of its first fold.

    A run that was stopped goes on with the same call: seeds that are done stay, the one that was not goes on from its
    last epoch, with the same losses as if nothing had happened.

    Args:
        config: see :func:`geomm.load_recipe`.
        out: folder of the run: ``recipe.yaml``, ``run.json`` (hashes of data, split and normalisation), and for each
            seed checkpoints, TensorBoard events and a model package.
        progress: told how far it is.

    Returns:
        The folder.

    Raises:
        OutputError: the folder holds a run of another recipe, or something else.
        PackageError: imagery, labels or split have changed since the run was begun.
        GeommError: any of the steps.
    """
    check(config, alone=False, tasks=("segmentation", "contrastive"))
    folder = local_folder(out)
    _claim(config, folder)
    sites = load_sites(config, folder)
    fold = make_folds(config, sites)[0]
    check_identity(config, sites, fold, folder)
    variant = Variant(tuple(config.modalities), config.model.fusion)
    record: dict[str, Any] = _identity(config, sites, fold)
    for k, seed in enumerate(config.train.seeds):
        place = folder / f"seed-{seed}"
        if (place / "model" / "SHA256SUMS").is_file():
            continue

        def told(done: int, _loss: float, k: int = k) -> None:
            progress("train", k * config.train.steps + done, len(config.train.seeds) * config.train.steps)

        fitted = train_one(config, sites, fold, variant, seed=seed, folder=place, on_step=told)
        if _leads():
            _save(config, sites, fitted, place, record, seed)
    return folder


def _save(config: RunConfig, sites: list[Site], fitted: Fitted, place: Path, record: dict[str, Any], seed: int) -> None:
    from geomm.package import save_package

    file = place.parent / RECORD
    seeds = json.loads(file.read_text())["seeds"] if file.is_file() else {}
    seeds[str(seed)] = {
        "normalisation": _hash(asdict(fitted.normaliser)),
        "steps": len(fitted.losses),
        "loss": fitted.losses[-1],
        "validation": list(fitted.validation),
        "temperature": fitted.temperature,
    }
    write_whole(file, json.dumps(record | {"seeds": seeds}, indent=2).encode())
    save_package(fitted, contract_of(config, sites), place / "model", name=config.name)


def _claim(config: RunConfig, folder: Path) -> None:
    """Write the recipe into an empty folder; refuse a folder that holds another one or something else."""
    file, recipe = folder / RECIPE, config.model_dump()
    if file.is_file():
        there = yaml.safe_load(file.read_text())
        if _what(there) != _what(recipe):
            raise OutputError(
                "the folder holds a run of another recipe",
                where=str(folder),
                why="its recipe.yaml differs from what is to be run",
                fix="name another folder, or remove this one",
            )
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            "the folder holds something else than a run",
            where=str(folder),
            fix="name a folder that does not exist yet: --out runs/NAME",
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, yaml.safe_dump(recipe, sort_keys=False).encode())


def check_identity(config: RunConfig, sites: list[Site], fold: Fold, folder: Path) -> None:
    """Refuse to go on with a run, or to judge it, whose imagery, labels or split have changed since.

    Raises:
        PackageError: they have; test pixels might be ones it was trained on.
    """
    file = folder / RECORD
    if not file.is_file():
        return
    there, here = json.loads(file.read_text()), _identity(config, sites, fold)
    changed = [k for k in ("data", "split") if there[k] != here[k]]
    if changed:
        raise PackageError(
            f"the {' and the '.join(changed)} are no longer what the run was trained with",
            where=str(folder),
            why="their hashes differ from those in run.json",
            fix="bring the old files back, or train again into another folder",
        )


def _what(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe without where it lies and where it runs."""
    train = {k: v for k, v in recipe["train"].items() if k not in ("accelerator", "devices")}
    return {**recipe, "root": "", "train": train}


def _identity(config: RunConfig, sites: list[Site], fold: Fold) -> dict[str, Any]:
    """Return what the run is made of: of imagery what it is and how large its files are, of labels their content."""
    data = [
        [
            s.name,
            str(geobox_of(s.cube)),
            sorted((c.id, *sorted(_file(b.href) for b in c.bands.values())) for c in s.scenes),
            hashlib.sha256(np.ascontiguousarray(labels_of(config, s))).hexdigest() if config.label else "",
            text_identity(config),
        ]
        for s in sites
    ]
    splits = [[n, s.shape, s.block, s.buffer, s.names, s.assignment] for n, s in sorted(fold.splits.items())]
    return {
        "geomm": __version__,
        "python": platform.python_version(),
        "packages": {n: metadata.version(n) for n in ("torch", "lightning", "torchgeo", "xarray", "numpy")},
        "name": config.name,
        "data": _hash(data),
        "split": _hash(splits),
    }


def _file(href: str) -> str:
    """Return an address with the size of the file, where it is one."""
    path = Path(href)
    return f"{href} {path.stat().st_size}" if path.is_file() else href


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _leads() -> bool:
    """Return whether this process writes: of several, the first."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0
