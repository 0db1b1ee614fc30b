"""Where figures of a run go: TensorBoard events in its folder; MLflow where asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger

from geomm.errors import DependencyError


def make_loggers(folder: Path) -> list[Any]:
    """Return the loggers of a run.

    MLflow is one of them where ``MLFLOW_TRACKING_URI`` is set, as for MLflow's own tools.

    Args:
        folder: of the run; TensorBoard's files go to ``events`` in it.

    Raises:
        DependencyError: MLflow is asked for and not installed.
    """
    loggers: list[Any] = [TensorBoardLogger(folder, name="", version="events")]
    if address := os.environ.get("MLFLOW_TRACKING_URI"):
        try:
            loggers.append(MLFlowLogger(folder.name, tracking_uri=address))
        except ModuleNotFoundError as error:
            raise DependencyError(
                "MLflow is not installed",
                why=f"MLFLOW_TRACKING_URI is {address}",
                fix="pip install mlflow-skinny, or unset the variable",
            ) from error
    return loggers
