"""What :func:`geomm.fit` is given fits together, before anything is trained."""

from __future__ import annotations

from typing import Any

from torch import nn

from geomm.errors import ConfigError, ContractError, typo_of
from geomm.models.spec import ModelSpec
from geomm.tasks import TASKS, Task
from geomm.train.settings import TrainData, TrainSettings
from geomm.types import check_kind

TRAINED = "give what geomm.fit(...) returns, or that of a package: load_package(FOLDER).model()"
"""What to write where a trained model is wanted."""


def check_fit(spec: Any, task: Any, data: Any, settings: Any) -> None:
    """Refuse arguments of another kind, and a model, a task and chips that do not belong together.

    Raises:
        ConfigError: an argument is something else, such as the name of a task.
        ContractError: outputs and classes differ in number, or the chips have other modalities than the model.
    """
    _check_kinds(spec, task, data, settings)
    about: ModelSpec | None = spec if isinstance(spec, ModelSpec) else getattr(spec, "spec", None)
    if about is None:
        return
    kinds = {name == "contrastive" for name in (about.task, task.name)}
    if len(kinds) > 1 or (task.name == "contrastive" and not about.text):
        fix = f'write ModelSpec(..., task="{task.name}"' + (', text="tiny")' if task.name == "contrastive" else ")")
        why = f"a model for {about.task} with {'the text encoder ' + about.text if about.text else 'no text encoder'}"
        raise ContractError(f"the model is none for the task {task.name}", why=why, fix=fix)
    # A retrieval model answers with vectors, whatever classes its captions were derived from.
    classes = 0 if task.name == "contrastive" else len(getattr(task, "classes", ()))
    if classes and classes != about.outputs:
        raise ContractError(
            "the model has another number of outputs than the task has classes",
            why=f"{about.outputs} outputs, {classes} classes",
            fix=f"write ModelSpec(..., outputs={classes})",
        )
    wanted, given = list(about.modalities), list(data.normaliser.mean)
    unused = [n for n in given if n not in wanted]
    for name in wanted:
        near = None if name in given else typo_of(name, unused)
        if near is not None or (wanted and not set(wanted) & set(given)):
            raise ContractError(
                "the chips lack a modality of the model",
                where=f"modality {name!r}",
                why=f"the model wants {', '.join(wanted)}; the chips have {', '.join(given)}",
                fix=f"did you mean {near!r}?" if near else "name them alike in ModelSpec and ChipDataset",
            )


def _check_kinds(spec: Any, task: Any, data: Any, settings: Any) -> None:
    if not isinstance(spec, ModelSpec) and not (isinstance(spec, nn.Module) and hasattr(spec, "spec")):
        fix = 'write ModelSpec({"optical": 6}, outputs=3); geomm.predictor_of_module maps with a network of your own'
        raise ConfigError("there is no model to train", where=" ".join(repr(spec).split())[:80], fix=fix)
    check_task(task)
    fix = "write TrainData(batches, Normaliser.fit(batches)) with batches = ChipBatches([dataset], 16)"
    check_kind(data, TrainData, "training needs TrainData", fix=fix)
    check_kind(settings, TrainSettings, "these are no settings", fix="write TrainSettings(steps=500)")


def check_task(task: Any) -> None:
    """Refuse what is no task, such as the name of one.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(task, Task):
        fix = (
            f"build it: get_task({task!r}, classes)" if task in TASKS else 'build it: get_task("segmentation", classes)'
        )
        raise ConfigError("this is no task", where=repr(task)[:80], fix=fix)
