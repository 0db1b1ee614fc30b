"""Checkpoints that are whole or not there: written aside, synced, renamed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from geomm.errors import SplitError
from geomm.train.module import TrainModule
from geomm.whole import whole_file, write_whole

LAST, BEST, FINAL = "last.ckpt", "best.ckpt", "final.ckpt"
"""Names of the checkpoints of a folder: to go on from, of the lowest validation loss, and what a finished run kept."""
CURVES = "curves.json"
"""Name of the losses beside them: of training by step, of validation by epoch."""


class WholeFiles(TorchCheckpointIO):  # type: ignore[misc]
    """Writes a checkpoint aside and renames it: a run killed while writing leaves the one before."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ARG002
        """Write a checkpoint; see the class."""
        save_whole(checkpoint, Path(path))


def save_whole(content: dict[str, Any], target: Path) -> None:
    """Write a file that torch reads: aside, synced, renamed."""
    with whole_file(target) as aside:
        torch.save(content, aside)


class KeepLastAndBest(Checkpoint):  # type: ignore[misc]
    """Keeps the last epoch, to go on from, and the one with the lowest validation loss; ends training without patience.

    Args:
        folder: where files go; made if it is not there. Files that a killed run left aside are removed.
        patience: epochs without a lower validation loss after which training stops; 0 for never.
        last: whether the run may be gone on with.
    """

    def __init__(self, folder: Path, *, patience: int, last: bool) -> None:
        self.folder, self.patience, self.last = folder, patience, last
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".*.ckpt.*"):
            left.unlink(missing_ok=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, after validation.

        Raises:
            SplitError: the validation loss is not a number: training diverged, or no validation pixel has a label.
        """
        assert isinstance(pl_module, TrainModule)
        now = trainer.callback_metrics.get("validation/loss")
        if now is not None:
            curve = pl_module.validation
            curve.append(float(now))
            if not math.isfinite(curve[-1]):
                raise SplitError(
                    "the validation loss is not a number",
                    why=f"training loss {pl_module.history[-1]:g}, validation {curve[-1]:g}",
                    fix="lower the rate, or check that validation chips have labels",
                )
            if curve[-1] == min(curve) and curve[-1] not in curve[:-1]:
                trainer.save_checkpoint(self.folder / BEST)
            if self.patience and len(curve) - 1 - curve.index(min(curve)) >= self.patience:
                trainer.should_stop = True
        if not self.last:
            return
        if trainer.is_global_zero:
            curves = {"train": pl_module.history, "validation": pl_module.validation}
            write_whole(self.folder / CURVES, json.dumps(curves).encode())
        trainer.save_checkpoint(self.folder / LAST)
