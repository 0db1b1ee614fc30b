"""One model of a recipe: what it learns from, how, and what it is judged on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.config import RunConfig, recipe_of
from geomm.errors import ConfigError
from geomm.pipeline.sites import Fold, Site, node_of, target_of
from geomm.pipeline.texts import teller_of
from geomm.types import Modality

if TYPE_CHECKING:
    from geomm.batches import ChipBatches
    from geomm.dataset import ChipDataset
    from geomm.models.multimodal import ModelSpec, MultimodalModel
    from geomm.tasks import Task
    from geomm.train import Fitted, OnStep, TrainData, TrainSettings
    from geomm.train.evaluate import HeldOut
    from geomm.transforms import Normaliser


@dataclass(frozen=True, slots=True)
class Variant:
    """One thing to train."""

    modalities: tuple[str, ...]
    """What it sees."""
    fusion: str
    """How it fuses; of a single modality it only shapes the head."""


def train_one(
    config: RunConfig,
    sites: list[Site],
    fold: Fold,
    variant: Variant,
    *,
    seed: int,
    folder: Path | None = None,
    on_step: OnStep | None = None,
) -> Fitted:
    """Train one model of a recipe on the training pixels of a fold; a stack, twice more on halves of them."""
    from geomm.train.evaluate import calibrate
    from geomm.train.fit import fit

    data = train_data(config, sites, fold, variant.modalities, seed)
    model, task, settings = model_of(config, sites, variant, seed), task_of(config), settings_of(config)
    data = replace(data, normaliser=normaliser_of(config, sites, model.spec, data.normaliser))
    fitted = fit(model, task, data, settings=settings, seed=seed, folder=folder, on_step=on_step)
    if variant.fusion == "late_stack":
        fitted = _stacked(config, sites, fold, variant, fitted, seed)
    return calibrate(fitted, data.validation) if data.validation and task.name == "segmentation" else fitted


def _stacked(config: RunConfig, sites: list[Site], fold: Fold, variant: Variant, fitted: Fitted, seed: int) -> Fitted:
    """Fit the rule of a stack on what models of one half of the training blocks say of the other."""
    from geomm.train.fit import fit
    from geomm.train.stacking import fit_stack

    task, settings, held = task_of(config), settings_of(config), []
    for k in range(2):
        halves = {n: s.halves("train", seed=seed)[k] for n, s in fold.splits.items() if "train" in s.names}
        half = Fold(fold.name, halves)
        mine = [s for s in sites if s.name in halves]
        learn = replace(train_data(config, mine, half, variant.modalities, seed), normaliser=fitted.normaliser)
        other = fit(model_of(config, sites, variant, seed), task, learn, settings=settings, seed=seed)
        held.append((other, test_sets(config, mine, half, variant.modalities)))
    return fit_stack(fitted, held)


def check(config: RunConfig, *, alone: bool = True, tasks: tuple[str, ...] = ("segmentation",)) -> None:
    """Refuse a recipe whose names do not exist, or that is of another task, before anything is read.

    Args:
        config: the recipe.
        alone: whether what is done needs one process.
        tasks: what can be done with.

    Raises:
        UnknownNameError: a fusion or loss.
        ConfigError: several devices for what needs one process, another task, a GPU where there is none, or no recipe.
    """
    from geomm.models.fusion import find_fusion

    config = recipe_of(config, RunConfig)
    if config.task not in tasks:
        raise ConfigError(
            f"this is for recipes of the task {' or '.join(tasks)}",
            where=config.name,
            why=f"its task is {config.task}",
            fix="`geomm run` takes any recipe; in Python contrastive ones are for geomm.run_search",
        )
    find_fusion(config.model.fusion)
    task_of(config)
    if alone and config.train.devices > 1:
        raise ConfigError(
            "several devices train one model", why=f"train.devices is {config.train.devices}", fix="use geomm train"
        )
    check_accelerator(config)


def check_accelerator(config: RunConfig) -> None:
    """Refuse a recipe that trains on a GPU where there is none.

    Raises:
        ConfigError: there is none.
    """
    import torch

    if config.train.accelerator == "gpu" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise ConfigError(
            "there is no GPU to train on",
            where=f"{config.name}, train.accelerator",
            why="torch finds none here; `geomm doctor` says more",
            fix="write train.accelerator: auto, which takes a GPU where there is one",
        )


def train_data(config: RunConfig, sites: list[Site], fold: Fold, names: tuple[str, ...], seed: int) -> TrainData:
    """Draw training chips, fit the normalisation on them, and lay out the validation where the split has one."""
    from geomm.batches import ChipBatches
    from geomm.train import TrainData
    from geomm.transforms import Normaliser

    size, batch = config.chips.size, config.train.batch
    training = [s for s in sites if "train" in fold.splits[s.name].names]
    share = -(-config.chips.number // len(training))
    parts, held = [], []
    for site in sites:
        split = fold.splits[site.name]
        if "train" in split.names:
            chips = split.random_chips("train", size, share, seed)
            parts.append(dataset_of(config, site, names, chips, (split, "train")))
        if "validation" in split.names:
            held.append(dataset_of(config, site, names, split.tiles("validation", size), (split, "validation")))
    normaliser = Normaliser.fit(ChipBatches(parts, batch, shuffle=False).epoch(0))
    validation = ChipBatches(held, batch, shuffle=False) if held else None
    return TrainData(ChipBatches(parts, batch, seed=seed), normaliser, validation)


def test_sets(config: RunConfig, sites: list[Site], fold: Fold, names: tuple[str, ...]) -> list[HeldOut]:
    """Lay out the test pixels of every site that has some."""
    from geomm.train.evaluate import HeldOut

    found = []
    for site in sites:
        split = fold.splits[site.name]
        if "test" in split.names:
            # A whole block at a time, so that test pixels see as much of their block as they can.
            chips = split.tiles("test", -(-split.block // config.chips.size) * config.chips.size)
            found.append(HeldOut(dataset_of(config, site, names, chips, (split, "test")), split.block))
    return found


def test_chips(
    config: RunConfig, sites: list[Site], fold: Fold, names: tuple[str, ...]
) -> dict[str, tuple[ChipBatches, list[str]]]:
    """Lay out the test chips of every site that has some, with the block that each lies in; those that have a text."""
    from geomm.batches import ChipBatches

    found = {}
    for site in sites:
        split = fold.splits[site.name]
        if "test" not in split.names:
            continue
        tell = teller_of(config, site, (split, "test"))
        told = [c for c in split.tiles("test", config.chips.size) if tell(c.read)]
        data = dataset_of(config, site, names, told, (split, "test"))
        blocks = [f"{site.name} {c.write.y // split.block} {c.write.x // split.block}" for c in data.chips]
        if blocks:
            found[site.name] = ChipBatches([data], config.train.batch, shuffle=False), blocks
    return found


def spec_of(config: RunConfig, sites: list[Site], variant: Variant) -> ModelSpec:
    """Return what a recipe builds for a variant."""
    from geomm.models.multimodal import ModelSpec

    nodes = {n: node_of(sites, n) for n in variant.modalities}
    streams = {
        n: Modality(config.modalities[n].sensor, tuple(str(b) for b in node["band"].to_numpy()))
        for n, node in nodes.items()
    }
    model = config.model
    return ModelSpec(
        {n: len(m.bands) for n, m in streams.items()},
        model.embedding if config.task == "contrastive" else len(config.labels.classes),
        config.task,
        model.encoder,
        variant.fusion,
        model.width,
        model.text,
        model.decoder,
        streams=streams,
    )


def model_of(config: RunConfig, sites: list[Site], variant: Variant, seed: int) -> MultimodalModel:
    """Build a recipe's model from a seed, with pretrained weights where the recipe names some.

    Raises:
        ConfigError: chips for training or prediction that its encoders cannot take.
    """
    import torch

    from geomm.models.multimodal import MultimodalModel

    files = {n: Path(config.root) / f for n, f in config.model.weights.items() if n in variant.modalities}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MultimodalModel(spec_of(config, sites, variant), pretrained=config.model.pretrained, weights=files)
    coarsest = max(int(e.strides[-1]) for e in model.encoders.values())  # type: ignore[index]
    sizes = {"chips.size": config.chips.size, "predict.size + 2 predict.halo": _side(config)}
    wrong = [f"{name} is {size}" for name, size in sizes.items() if size % coarsest]
    if wrong:
        raise ConfigError(
            "the encoder cannot take chips of that size",
            why=f"{' and '.join(wrong)}: no multiple of its coarsest stride {coarsest}",
            fix=f"set chips.size, and predict.size + 2 predict.halo, to multiples of {coarsest}",
        )
    return model


def _side(config: RunConfig) -> int:
    """Return the side of what is read to predict a chip."""
    return config.predict.size + 2 * config.predict.halo


def normaliser_of(config: RunConfig, sites: list[Site], spec: ModelSpec, fitted: Normaliser) -> Normaliser:
    """Replace the fitted normalisation of every modality whose pretrained weights want their own."""
    from geomm.models.encoders import wants_of
    from geomm.train.pretrained import normalise_as

    for name, modality in spec.streams.items():
        if not (config.model.pretrained or name in config.model.weights):
            continue
        wanted = wants_of(spec.encoder_of(name), modality)
        if wanted is not None:
            fitted = normalise_as(fitted, name, wanted, node_of(sites, name).attrs["units"])
    return fitted


def settings_of(config: RunConfig) -> TrainSettings:
    """Return how a recipe trains."""
    from geomm.train import TrainSettings

    own = {"batch", "seeds"}
    return TrainSettings(**{k: v for k, v in config.train.model_dump().items() if k not in own and k != "loss"})


def dataset_of(config: RunConfig, site: Site, names: tuple[str, ...], chips: Any, split: Any) -> ChipDataset:
    """Lay out chips with their labels, or with their texts; of the latter, those that have some."""
    from geomm.dataset import ChipDataset

    if config.task == "segmentation":
        return ChipDataset(site.cube, chips, names, target=target_of(config), split=split)
    tell = teller_of(config, site, split)
    told = list(chips) if "views" in config.train.loss else [c for c in chips if tell(c.read)]
    return ChipDataset(site.cube, told, names, split=split, text=tell)


def task_of(config: RunConfig) -> Task:
    """Return the recipe's task."""
    from geomm.tasks import get_task

    return get_task(config.task, config.classes(), loss=config.train.loss)
