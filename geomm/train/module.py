"""One training step and one validation step, as Lightning wants them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor

from geomm.batches import Batches
from geomm.dataset import Sample
from geomm.errors import PackageError, SplitError
from geomm.models.multimodal import MultimodalModel
from geomm.tasks import Task
from geomm.train.settings import OnStep, TrainData, TrainSettings
from geomm.transforms import Normaliser, augment, drop_modalities
from geomm.types import INVALID_CLASS


class TrainModule(LightningModule):  # type: ignore[misc]
    """A task around a model.

    All randomness of an epoch follows from the seed, the epoch and the rank, so that a run that was stopped goes on
    with the same numbers.
    """

    def __init__(
        self, model: MultimodalModel, task: Task, normaliser: Normaliser, settings: TrainSettings, seed: int
    ) -> None:
        super().__init__()
        self.model, self.task, self.normaliser = model, task, normaliser
        self.settings, self.seed = settings, seed
        self.history: list[float] = []
        self.validation: list[float] = []
        self.random = torch.Generator()
        self._sums: list[Tensor] = []
        self._labelled: bool | None = False
        """Whether the first epoch has shown a label so far; None after it."""

    def on_train_epoch_start(self) -> None:
        """Draw the randomness of this epoch."""
        number = (self.seed * 1_000_003 + self.current_epoch) * 4_099 + self.global_rank
        torch.manual_seed(number)
        self.random.manual_seed(number)

    def transfer_batch_to_device(self, batch: Sample, device: torch.device, dataloader_idx: int) -> Sample:  # noqa: ARG002
        """Move a batch."""
        return batch.to(device)

    def training_step(self, batch: Sample, batch_idx: int) -> Tensor:
        """Augment, normalise, hide modalities, judge."""
        ready = self.normaliser(augment(batch, self.random) if self.settings.augment else batch)
        if self.settings.modality_dropout > 0:
            ready = drop_modalities(ready, self.settings.modality_dropout, self.random)
        parts = self.task.losses(self.model, ready)
        if self._labelled is False:
            self._labelled = batch.target is None or bool((batch.target != INVALID_CLASS).any())
        self._sums.append(parts[0].detach())
        if (batch_idx + 1) % self.settings.accumulate == 0:
            self.history.append(float(torch.stack(self._sums).mean()))
            self._sums.clear()
            self.log("train/loss", self.history[-1])
        return parts.mean()

    def on_train_epoch_end(self) -> None:
        """Drop what was accumulated for a step that the epoch's end cut short: Lightning steps there.

        Raises:
            SplitError: no chip of the first epoch had a label, and nothing else was learnt.
        """
        if self._sums:
            self.history.append(float(torch.stack(self._sums).mean()))
            self._sums.clear()
        labelled, self._labelled = self._labelled, None
        # Asked of all processes alike: one of them may have got the chips without labels.
        if labelled is not None and not self.trainer.strategy.reduce_boolean_decision(labelled, all=False):
            check_learnt(self.history, self.trainer.datamodule.data.train)

    def validation_step(self, batch: Sample, batch_idx: int) -> None:  # noqa: ARG002 - Lightning's
        """Judge; batches count by their labels."""
        loss = self.task.losses(self.model, self.normaliser(batch))[0]
        labels = None if batch.target is None else int((batch.target != INVALID_CLASS).sum())
        size = len(next(iter(batch.images.values()))) if labels is None else labels
        self.log("validation/loss", loss, on_step=False, on_epoch=True, sync_dist=True, batch_size=size)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:  # noqa: ARG002 - Lightning's
        """Log how hard each modality pulls: norms of the gradients of the encoders."""
        if self.trainer.loggers:
            for name, encoder in self.model.encoders.items():
                parts = [p.grad for p in encoder.parameters() if p.grad is not None]
                if parts:
                    self.log(f"gradient/{name}", torch.nn.utils.get_total_norm(parts))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW and the schedule; vectors and scalars are not decayed."""
        rate, wanted = self.settings.rate, [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in wanted if p.ndim > 1], "weight_decay": self.settings.weight_decay},
            {"params": [p for p in wanted if p.ndim <= 1], "weight_decay": 0.0},
        ]
        fused = self.settings.precision == "32-true"  # with scaled gradients a fused one cannot be clipped
        optimiser = torch.optim.AdamW([g for g in groups if g["params"]], rate, fused=fused)
        schedule: Any
        if self.settings.schedule == "one_cycle":
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=self.settings.steps)
        else:
            schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, self._factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _factor(self, step: int) -> float:
        """Return the share of the peak rate at a step."""
        if step < self.settings.warmup:
            return (step + 1) / self.settings.warmup
        if self.settings.schedule == "constant":
            return 1.0
        left = max(self.settings.steps - self.settings.warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * min((step - self.settings.warmup) / left, 1.0)))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curves with the weights, and what they belong to."""
        checkpoint["geomm"] = {"history": list(self.history), "validation": list(self.validation), **self._identity()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the curves.

        Raises:
            PackageError: the checkpoint is of another model, seed or settings.
        """
        kept, here = checkpoint.get("geomm", {}), self._identity()
        other = [f"{k} {kept.get(k)}, here {v}" for k, v in here.items() if kept.get(k) != v]
        if other:
            raise PackageError(
                "the checkpoint is of another run", why="; ".join(other), fix="name another folder, or remove this one"
            )
        self.history, self.validation = list(kept["history"]), list(kept["validation"])

    def _identity(self) -> dict[str, Any]:
        """Return what must be the same for a run to go on; where it runs may change."""
        settings = {k: v for k, v in asdict(self.settings).items() if k not in ("accelerator", "devices")}
        spec = self.model.spec.to_json()
        return {"seed": self.seed, "settings": settings, "spec": spec, "loss": self.task.loss_name}


def check_learnt(losses: Sequence[float], batches: Batches) -> None:
    """Refuse to go on where no chip had a label and every loss is 0.

    Raises:
        SplitError: that is so.
    """
    if any(losses):
        return
    readers = [getattr(s, "reader", None) for s in getattr(batches, "sources", ())]
    targets = {f"Target({t.modality!r}, values={t.values})" for r in readers if (t := getattr(r, "target", None))}
    splits = {s[1] for r in readers if (s := getattr(r, "split", None))}
    raise SplitError(
        "not one labelled pixel was seen in the first epoch",
        where="; ".join([*sorted(targets), *(f"split {n!r}" for n in sorted(splits))]),
        why="no pixel of the chips has one of the values of the target",
        fix="give Target(values=...) the codes that the labels hold, or a split whose chips have labels",
    )


class Told(Callback):  # type: ignore[misc]
    """Tells of every optimiser step."""

    def __init__(self, on_step: OnStep) -> None:
        self.on_step, self._told = on_step, 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ARG002
        """Tell, if the batch completed a step."""
        assert isinstance(pl_module, TrainModule)
        if len(pl_module.history) > self._told:
            self._told = len(pl_module.history)
            self.on_step(self._told, pl_module.history[-1])


@dataclass(frozen=True, slots=True)
class _Epoch:
    """One pass over batches, or the beginning of one."""

    batches: Batches
    number: int
    rank: int
    world: int
    most: int | None = None

    def __iter__(self) -> Iterator[Sample]:
        return islice(self.batches.epoch(self.number, rank=self.rank, world=self.world), self.most)


class EpochData(LightningDataModule):  # type: ignore[misc]
    """Hands the trainer the batches of the epoch that it is in."""

    def __init__(self, data: TrainData) -> None:
        super().__init__()
        self.data = data

    def train_dataloader(self) -> _Epoch:
        """Return the batches of this epoch; the last one ends with the last step, so that it is validated too."""
        assert self.trainer is not None
        trainer = self.trainer
        left = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
        return _Epoch(self.data.train, trainer.current_epoch, trainer.global_rank, trainer.world_size, max(left, 0))

    def val_dataloader(self) -> Any:
        """Return the batches to validate on, the same in every epoch and on every rank; none without validation."""
        return [] if self.data.validation is None else _Epoch(self.data.validation, 0, 0, 1)
