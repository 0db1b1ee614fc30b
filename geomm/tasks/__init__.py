"""Tasks: what a model is trained for and how its answer becomes a prediction.

A task is a module of this folder that exposes ``TASK``, a class built from the classes of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from geomm.dataset import Sample
from geomm.errors import ConfigError, UnknownNameError
from geomm.types import ClassSpec, LayerSpec, Prediction

TASKS = ("segmentation", "classification", "multilabel", "contrastive")
"""Names of the tasks."""


@runtime_checkable
class Task(Protocol):
    """What training and prediction need of a task."""

    name: str
    """Name, which also decides the head."""
    layers: tuple[LayerSpec, ...]
    """What a decoded prediction holds."""

    loss_name: str
    """What it minimises."""

    def losses(self, model: Any, batch: Sample) -> Tensor:
        """Return the model's loss on a normalised batch and, after it, those of its parts; their mean is minimised."""
        ...

    def activate(self, answer: Tensor) -> Tensor:
        """Turn the model's answer into scores that may be averaged over overlaps."""
        ...

    def decode(self, scores: np.ndarray, valid: np.ndarray) -> Prediction:
        """Turn scores of a block into named arrays; pixels that are not valid become nodata."""
        ...


def get_task(name: str, classes: Sequence[ClassSpec] = (), *, loss: str = "") -> Task:
    """Build a task by name.

    Args:
        name: one of :data:`TASKS`.
        classes: in the order of the model's outputs; a retrieval model has none.
        loss: see :mod:`geomm.tasks.losses`, and :mod:`geomm.tasks.contrastive` for that task's own; empty for the
            task's first.

    Raises:
        UnknownNameError: there is no task or loss of that name.
        ConfigError: there are no classes, or they are something else.
    """
    if name not in TASKS:
        raise UnknownNameError.of("task", name, TASKS)
    given: Any = classes
    wrong = [c for c in given if not isinstance(c, ClassSpec)]
    if wrong or (not classes and name != "contrastive"):
        fix = 'write (ClassSpec(0, "land", "#33a02c"), ClassSpec(1, "water", "#1f78b4"))'
        why = f"got {(wrong or [given])[0]!r}"[:80]
        raise ConfigError(f"the task {name} needs the classes of the map", why=why, fix=fix)
    build = import_module(f"geomm.tasks.{name}").TASK
    task: Task = build(tuple(classes), loss) if loss else build(tuple(classes))
    return task
