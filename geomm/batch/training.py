"""Units of ``train`` stages: a model package, from the imagery of a training recipe or from stored chips."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.batch.task import Task, Told
from geomm.batch.work import plain_item, published_file
from geomm.config import RunConfig, TrainStage, load_recipe
from geomm.errors import ConfigError, PackageError
from geomm.pipeline.clock import Clock

if TYPE_CHECKING:
    from geomm.package import InputContract
    from geomm.store import StoredChips
    from geomm.train import Fitted

MODEL = "model"
"""Folder of the model package in a unit."""


def make(task: Task, folder: Path, clock: Clock, told: Told) -> dict[str, Any]:
    """Train; a try that was stopped goes on from its last epoch."""
    from geomm.package import save_package
    from geomm.pipeline.train import train

    stage = task.stage
    assert isinstance(stage, TrainStage)
    config = recipe_of(stage, task.root)
    seed = config.train.seeds[0]
    clock.lap("load")
    if stage.chips:
        stores = [Path(p) for p in task.settings["stores"]]
        fitted, contract = _learn(config, stores, seed, task.folder / "run", told)
        save_package(fitted, contract, folder / MODEL, name=config.name)
    else:
        one = config.model_copy(update={"train": config.train.model_copy(update={"seeds": [seed]})})
        run = train(one, task.folder / "run", progress=lambda _s, _d, _t: told())
        shutil.copytree(run / f"seed-{seed}" / "model", folder / MODEL)
    clock.lap("model")
    item = plain_item(task)
    item["assets"]["model"] = published_file(folder / MODEL / "mlm.json", folder, "Model package", "application/json")
    return item


def recipe_of(stage: TrainStage, root: Path) -> RunConfig:
    """Read the training recipe of a stage.

    Raises:
        ConfigError: it cannot be read, or is wrong.
    """
    return load_recipe(root / stage.recipe, dict(stage.overrides))


def _learn(
    config: RunConfig, stores: list[Path], seed: int, folder: Path, told: Told
) -> tuple[Fitted, InputContract]:  # fmt: skip
    """Train on stored chips."""
    from geomm.batches import ChipBatches
    from geomm.models.multimodal import ModelSpec
    from geomm.pipeline.learn import settings_of, task_of
    from geomm.store import StoredChips
    from geomm.train import TrainData
    from geomm.train.fit import fit
    from geomm.transforms import Normaliser

    opened = [StoredChips(s) for s in stores]
    if not opened:
        raise ConfigError("there are no chips to train on", fix="run the stage of the chips on imagery first")
    parts = [s.select(split="train") for s in opened]
    held = [s.select(split="validation") for s in opened if (s.table["split"] == "validation").any()]
    batch = config.train.batch
    normaliser = Normaliser.fit(ChipBatches(parts, batch, shuffle=False).epoch(0))
    validation = ChipBatches(held, batch, shuffle=False) if held else None
    data = TrainData(ChipBatches(parts, batch, seed=seed), normaliser, validation)
    contract = _contract(config, opened)
    model, streams = config.model, dict(contract.modalities)
    spec = ModelSpec(
        {n: len(m.bands) for n, m in streams.items()},
        len(config.labels.classes),
        config.task,
        model.encoder,
        model.fusion,
        model.width,
        decoder=model.decoder,
        streams=streams,
    )

    def on_step(_done: int, _loss: float) -> None:
        told()

    settings = settings_of(config)
    return fit(spec, task_of(config), data, settings=settings, seed=seed, folder=folder, on_step=on_step), contract


def _contract(config: RunConfig, stores: list[StoredChips]) -> InputContract:
    """Return what the model wants: what the chips are.

    Raises:
        PackageError: no store has a modality of the recipe.
    """
    from geomm.package import InputContract
    from geomm.types import Modality

    about = {a.name.removeprefix("images/"): a.attrs for s in stores for a in s.arrays if a.name.startswith("images/")}
    lacking = set(config.modalities) - set(about)
    if lacking:
        raise PackageError(
            f"the chips lack {', '.join(sorted(lacking))}",
            where=str(stores[0].folder),
            why=f"they hold {', '.join(sorted(about))}",
            fix="name the modalities alike in the stage of the chips and in the training recipe",
        )
    everywhere = [n for n in config.modalities if all(f"images/{n}" in {a.name for a in s.arrays} for s in stores)]
    return InputContract(
        {n: Modality(str(about[n]["sensor"]), tuple(about[n]["bands"])) for n in config.modalities},
        {n: about[n]["units"] for n in config.modalities},
        config.classes(),
        float(stores[0].table["resolution"].iloc[0]),
        config.predict.size,
        config.predict.halo,
        () if config.train.modality_dropout else tuple(everywhere),
    )
