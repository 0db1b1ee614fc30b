"""What would put every unit of a stage aside is refused before the first is begun.

Asked only where there is work: it imports torch, which a run that finds nothing new can do without.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from geomm.batch.options import SCHEDULERS, BatchOptions
from geomm.batch.stages import StagePlan
from geomm.config import IndexStage, PredictStage, TrainStage
from geomm.errors import ConfigError, ContractError

if TYPE_CHECKING:
    from geomm.package import ModelPackage


def check_stage(plan: StagePlan, root: str | Path, options: BatchOptions) -> None:
    """Refuse a stage whose units cannot succeed. What a cluster's workers have is theirs to know.

    Raises:
        ContractError: the model is of another task.
        ConfigError: polygons without a class map, a layer that the task does not have, or a GPU that is not here.
        UnknownNameError: there is no such layer.
    """
    stage = plan.stage
    if isinstance(stage, TrainStage) and options.scheduler in SCHEDULERS:
        from geomm.batch.training import recipe_of
        from geomm.pipeline.learn import check_accelerator

        check_accelerator(recipe_of(stage, Path(root)))
    if isinstance(stage, (PredictStage, IndexStage)):
        from geomm.package import load_package

        check_model(stage, load_package(plan.model))


def check_model(stage: PredictStage | IndexStage, package: ModelPackage) -> None:
    """Refuse a model that cannot make what a stage asks for: else every unit would be put aside.

    Raises:
        ContractError: the model is of another task.
        ConfigError: polygons without a class map, or a layer that its task does not have.
        UnknownNameError: there is no such layer.
    """
    from geomm.prediction import PredictSettings
    from geomm.prediction.predictor import class_maps

    task, wanted = str(package.spec["task"]), "contrastive" if isinstance(stage, IndexStage) else "segmentation"
    if (task == "contrastive") != isinstance(stage, IndexStage):
        raise ContractError(
            f"the stage {stage.name} cannot use the model",
            where=str(package.path),
            why=f"its task is {task}",
            fix=f"name a model that was trained with `task: {wanted}`",
        )
    if isinstance(stage, PredictStage):
        own = tuple(layer.name for layer in package.task().layers)
        maps = class_maps(package.contract.classes, PredictSettings(layers=tuple(stage.layers)), own)
        if stage.polygons and "class" not in [layer.name for layer in maps.layers]:
            raise ConfigError("polygons are made of the class map", where=stage.name, fix="add class to the layers")
