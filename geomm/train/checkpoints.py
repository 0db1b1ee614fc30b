"""Checkpoints that are whole or not there: written aside, synced, renamed."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from geomm.train.module import TrainModule

LAST, BEST = "last.ckpt", "best.ckpt"
"""Names of the two checkpoints of a folder."""
CURVES = "curves.json"
"""Name of the losses beside them: of training by step, of validation by epoch."""


class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]
    """Writes a checkpoint aside and renames it: a run killed while writing leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        """Write a checkpoint; see the class."""
        target = Path(path)
        aside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with aside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(target)
        finally:
            aside.unlink(missing_ok=True)


class KeepLastAndBest(Checkpoint):  # type: ignore[misc]
    """Keeps the last epoch, to go on from, and the one with the lowest validation loss.

    Args:
        folder: where the two files go; made if it is not there. Files that a killed run left aside are removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.best = folder, math.inf
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.ckpt.*"):
            left.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the lowest loss so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = state_dict["best"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, after validation."""
        assert isinstance(pl_module, TrainModule)
        now = trainer.callback_metrics.get("validation/loss")
        if now is not None and not trainer.sanity_checking:
            pl_module.validation.append(float(now))
            if float(now) < self.best:
                self.best = float(now)
                trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)
        if trainer.is_global_zero:
            curves = {"train": pl_module.history, "validation": pl_module.validation}
            aside = self.folder / f".{CURVES}"
            aside.write_text(json.dumps(curves))
            aside.replace(self.folder / CURVES)
