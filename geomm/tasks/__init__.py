"""Tasks: what a model is trained for and how its answer becomes a prediction.

A task is a module of this folder that exposes ``TASK``, a class built from the classes of the map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from geomm.dataset import Sample
from geomm.errors import ConfigError, DuplicateNameError, UnknownNameError
from geomm.models.heads import set_head
from geomm.types import ClassSpec, LayerSpec, Prediction, check_classes

_TABLE: dict[str, Callable[..., Any] | None] = dict.fromkeys(
    ("segmentation", "classification", "multilabel", "contrastive")
)

TASKS: Mapping[str, Callable[..., Any] | None] = MappingProxyType(_TABLE)
"""Tasks by name, with what builds them; None where it is ``TASK`` of the module of that name."""


@runtime_checkable
class Task(Protocol):
    """What training and prediction need of a task."""

    name: str
    """Name, which also decides the head: that of the ``task`` of a :class:`geomm.ModelSpec`."""
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
        ConfigError: there are no classes, they are something else, or two have the same code or name.
    """
    if name not in TASKS:
        raise UnknownNameError.of("task", name, TASKS)
    check_classes(classes)
    if not classes and name != "contrastive":
        fix = 'write (ClassSpec(0, "land", "#33a02c"), ClassSpec(1, "water", "#1f78b4"))'
        raise ConfigError(f"the task {name} needs the classes of the map", why="there is none", fix=fix)
    build = TASKS[name] or import_module(f"geomm.tasks.{name}").TASK
    task: Task = build(tuple(classes), loss) if loss else build(tuple(classes))
    return task


def register_task(name: str, build: Callable[..., Task], *, head: str | Callable[..., Any]) -> None:
    """Add a task under a name, for this process; :func:`get_task` and :class:`geomm.ModelSpec` know it from then on.

    Args:
        name: the ``name`` of what is built.
        build: class of the task, from a tuple of its classes, and the name of a loss where one is asked for.
        head: name of a task that shares its head, such as ``segmentation``, which answers for every pixel; or a class
            of its own, from a :class:`geomm.models.levels.Shape` and the number of outputs, as in
            :mod:`geomm.models.heads`. One that answers for every pixel says ``dense = True``.

    Raises:
        DuplicateNameError: there is a task of that name.
        UnknownNameError: there is no task of the name that ``head`` gives.
    """
    if name in _TABLE:
        raise DuplicateNameError.of("task", name)
    set_head(name, head)
    _TABLE[name] = build
