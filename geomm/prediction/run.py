"""Predict a cube with packaged models, here or on a cluster."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from geomm.cube import cube_of, geobox_of, ground_size
from geomm.errors import ConfigError
from geomm.package import ModelPackage, check_cube, check_scale
from geomm.prediction.cluster import predict_on
from geomm.prediction.device import resolved
from geomm.prediction.fitting import fitted_settings
from geomm.prediction.members import Member, predictor_of
from geomm.prediction.settings import PredictSettings
from geomm.prediction.stream import OnBlock, plan_of, predict_blocks
from geomm.types import Prediction, Window, check_kind

if TYPE_CHECKING:
    import xarray as xr

type Models = ModelPackage | Member | Sequence[ModelPackage | Member]
"""A model, or several that are averaged; as :class:`Member` they are not loaded again."""


def predict(
    cube: xr.DataTree,
    package: Models,
    settings: PredictSettings | None = None,
    *,
    skip: Collection[Window] = (),
    client: Any | None = None,
    on_block: OnBlock | None = None,
) -> Iterator[tuple[Window, Prediction]]:
    """Predict a cube with a packaged model, or the average of several.

    Args:
        cube: lazy; only what a block or two need is in memory at a time.
        package: loaded, or made ready as :class:`Member`; its contract is checked before the first pixel moves. Several
            are averaged.
        settings: by default those that fit the model and the grid, see :func:`settings_for`.
        skip: blocks that are there already.
        client: of ``dask.distributed``, to let its workers do it; the result is the same.
        on_block: progress.

    Returns:
        Stream of output windows and predictions, in any order; the windows cover the grid exactly once.

    Raises:
        ContractError: at once, before anything is read: the cube lacks a modality or band, is in another unit, or has
            pixels of another size; the model answers with vectors; or the models differ.
        UnknownNameError: at once: there is no such layer.
        ConfigError: at once: this is no cube, or no model package.
    """
    cube_of(cube)
    fix = "write settings_for(cube, package, PredictSettings(layers=('class',)))"
    check_kind(settings, (PredictSettings, type(None)), "settings are PredictSettings", fix=fix)
    for one in _listed(package):
        contract = (one.package if isinstance(one, Member) else one).contract
        check_cube(contract, cube)
        check_scale(contract, ground_size(geobox_of(cube)))
    members = ready(package, settings or PredictSettings())
    settings = settings or fitted_settings(members, _shape(cube), PredictSettings())
    settings = replace(
        settings,
        threads=settings.threads or torch.get_num_threads(),
        precision=resolved(settings.precision, settings.device),
    )
    predictor = predictor_of(members, settings)
    if client is None:
        return predict_blocks(cube, predictor, settings, skip=skip, on_block=on_block)
    packages, plan = [m.package for m in members], plan_of(cube, predictor, settings)
    return predict_on(client, cube, packages, settings, plan, skip=skip, on_block=on_block)


def settings_for(cube: xr.DataTree, package: Models, wanted: PredictSettings | None = None) -> PredictSettings:
    """Return settings that fit a model and a grid.

    Args:
        cube: what will be predicted.
        package: the model, or several.
        wanted: all but size, halo, block and batch, which are found.

    Raises:
        ContractError: the model answers with vectors.
    """
    wanted = wanted or PredictSettings()
    return fitted_settings(ready(package, wanted), _shape(cube), wanted)


def ready(package: Models, settings: PredictSettings) -> list[Member]:
    """Return models on their device; those that are there already as they are."""
    return [one if isinstance(one, Member) else Member(one, settings) for one in _listed(package)]


def _listed(package: Models) -> list[ModelPackage | Member]:
    if isinstance(package, (ModelPackage, Member)):
        return [package]
    given = list(package) if isinstance(package, (list, tuple)) else []
    if not given or not all(isinstance(one, (ModelPackage, Member)) for one in given):
        raise ConfigError(
            "this is no model package",
            where=repr(package)[:80],
            why=f"got {type(package).__name__}",
            fix=f"load it first: geomm.load_package({str(package)!r})"
            if isinstance(package, (str, Path))
            else "the cube comes first, then the model: geomm.predict(cube, geomm.load_package(FOLDER))",
        )
    return given


def _shape(cube: xr.DataTree) -> tuple[int, int]:
    height, width = geobox_of(cube).shape
    return int(height), int(width)
