"""Train a model: Lightning's Trainer around a task."""

from __future__ import annotations

import logging
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException

from geomm.errors import ConfigError, OutputError
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.tasks import Task
from geomm.train.checkpoints import BEST, FINAL, LAST, KeepLastAndBest, WholeFiles, save_whole
from geomm.train.checks import check_fit
from geomm.train.loggers import make_loggers
from geomm.train.module import EpochData, Told, TrainModule
from geomm.train.settings import Fitted, OnStep, TrainData, TrainSettings


def fit(
    spec: ModelSpec | MultimodalModel,
    task: Task,
    data: TrainData,
    *,
    settings: TrainSettings,
    seed: int = 0,
    folder: str | Path | None = None,
    on_step: OnStep | None = None,
) -> Fitted:
    """Train a model from a seed.

    Args:
        spec: what to build, or a model that is built already, such as one with pretrained weights; it is trained in
            place.
        task: loss and decoding.
        data: chips, normalisation, and validation where there is one; with it, the best epoch is kept.
        settings: how to train.
        seed: of the initial weights, the augmentation and dropped modalities; the order of chips is that of ``data``.
        folder: of the run: checkpoints and TensorBoard events. A run that was stopped goes on from its last epoch, with
            the same losses as if it had not been stopped. None to keep nothing.
        on_step: progress.

    Returns:
        The model in evaluation mode and its losses.

    Raises:
        ContractError: the model has other outputs than the task has classes, or other modalities than the chips.
        PackageError: the checkpoint in ``folder`` is of another model or other settings.
        ConfigError: patience without validation, or several processes with validation and no folder where they find
            the best epoch.
        SplitError: the validation loss is not a number, or the first epoch had no labelled pixel.
        OutputError: ``folder`` is a file, or may not be written to.
    """
    check_fit(spec, task, data, settings)
    if settings.patience and data.validation is None:
        raise ConfigError("patience needs validation", why=f"patience {settings.patience}", fix="give TrainData some")
    if settings.devices > 1 and data.validation is not None and folder is None:
        raise ConfigError("several processes that validate need a folder", fix="give fit a folder")
    _make(folder)
    kept = folder is not None or data.validation is not None
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="geomm-fit-") as scratch, _quiet():
        torch.manual_seed(seed)
        model = MultimodalModel(spec) if isinstance(spec, ModelSpec) else spec
        checkpoints = Path(folder or scratch) / "checkpoints" if kept else None
        module = TrainModule(model, task, data.normaliser, settings, seed)
        if checkpoints and (checkpoints / FINAL).is_file():  # finished before
            _load(module, checkpoints / FINAL)
        else:
            trainer = _trainer(settings, checkpoints, Path(folder) if folder else None, on_step)
            last = checkpoints / LAST if checkpoints and (checkpoints / LAST).is_file() else None
            with _told_to_stop():
                trainer.fit(module, datamodule=EpochData(data), ckpt_path=last)
            if checkpoints:  # with a moving average, a checkpoint holds that
                wanted = checkpoints / (LAST if data.validation is None else BEST)
                module.load_state_dict(torch.load(wanted, map_location="cpu", weights_only=True)["state_dict"])
            if folder and trainer.is_global_zero:
                assert checkpoints
                final: dict[str, Any] = {"state_dict": module.state_dict()}
                module.on_save_checkpoint(final)
                save_whole(final, checkpoints / FINAL)
    return Fitted(model.cpu().eval(), data.normaliser, tuple(module.history), tuple(module.validation))


def _make(folder: str | Path | None) -> None:
    """Make the folder of a run, or refuse it before anything is trained."""
    if folder is None:
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        fix = "name a folder that you may write to, such as runs/first"
        raise OutputError(
            "the folder of the run cannot be written", where=str(folder), why=str(error), fix=fix
        ) from error


def _load(module: TrainModule, file: Path) -> None:
    """Load what a finished run kept, if it is this run."""
    final = torch.load(file, map_location="cpu", weights_only=True)
    module.on_load_checkpoint(final)
    module.load_state_dict(final["state_dict"])


def _trainer(settings: TrainSettings, checkpoints: Path | None, folder: Path | None, on_step: OnStep | None) -> Trainer:
    callbacks: list[Callback] = [Told(on_step)] if on_step else []
    if settings.average:
        callbacks.append(EMAWeightAveraging(decay=settings.average))
    if checkpoints:
        callbacks.append(KeepLastAndBest(checkpoints, patience=settings.patience, last=folder is not None))
    return _built(
        max_steps=settings.steps,
        max_epochs=-1,
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy="ddp_find_unused_parameters_true" if settings.devices > 1 else "auto",
        precision=settings.precision,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip or None,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=make_loggers(folder) if folder else False,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        enable_checkpointing=checkpoints is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def _built(**options: Any) -> Trainer:
    try:
        return Trainer(**options)
    except (MisconfigurationException, ValueError) as error:
        raise ConfigError(
            "the accelerator is not here",
            where=f"accelerator {options['accelerator']!r}, devices {options['devices']}",
            why=str(error).splitlines()[0][:160],
            fix="write accelerator='cpu' or 'auto', and no more devices than there are; `geomm doctor` finds GPUs",
        ) from error


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Let a process that was told to stop end with the status that says so; Lightning's own is that of success."""
    try:
        yield
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's start-up messages and advice; errors still come through."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*num_workers.*|.*litlogger.*|.*treespec.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
