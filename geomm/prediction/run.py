"""Predict a cube with packaged models."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from geomm.cube import geobox_of
from geomm.package import ModelPackage, check_cube
from geomm.prediction.fitting import fitted_settings
from geomm.prediction.members import Member, predictor_of
from geomm.prediction.settings import PredictSettings
from geomm.prediction.stream import OnBlock, predict_blocks
from geomm.types import Prediction, Window

if TYPE_CHECKING:
    import xarray as xr


def predict(
    cube: xr.DataTree,
    package: ModelPackage | Sequence[ModelPackage],
    settings: PredictSettings | None = None,
    *,
    skip: Collection[Window] = (),
    on_block: OnBlock | None = None,
) -> Iterator[tuple[Window, Prediction]]:
    """Predict a cube with a packaged model, or the average of several.

    Args:
        cube: lazy; only what a block or two need is in memory at a time.
        package: loaded; its contract is checked before the first pixel moves. Several are averaged.
        settings: by default those that fit the model and the grid, see :func:`fitted_settings`.
        skip: blocks that are there already.
        on_block: progress.

    Returns:
        Stream of output windows and predictions, in any order; the windows cover the grid exactly once.

    Raises:
        ContractError: at once, before anything is read: the cube lacks a modality or band, or is in another unit; the
            model answers with vectors; or the models differ.
        UnknownNameError: at once: there is no such layer.
    """
    packages = [package] if isinstance(package, ModelPackage) else list(package)
    check_cube(packages[0].contract, cube)
    members = [Member(p, settings or PredictSettings()) for p in packages]
    if settings is None:
        height, width = geobox_of(cube).shape
        settings = fitted_settings(members, (int(height), int(width)), PredictSettings())
    return predict_blocks(cube, predictor_of(members, settings), settings, skip=skip, on_block=on_block)
