"""A model, its contract and what is said of it belong together, before a package is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from geomm.errors import ConfigError, ContractError
from geomm.package.contract import InputContract
from geomm.types import check_kind

if TYPE_CHECKING:
    from geomm.train import Fitted


def check_package(fitted: Fitted, contract: InputContract, name: str) -> None:
    """Refuse arguments of another kind, and a contract that is of another model.

    Raises:
        ConfigError: one is of another kind.
        ContractError: the model has other modalities, numbers of bands or classes than the contract.
    """
    from geomm.train import Fitted

    check_kind(fitted, Fitted, "this is no trained model", fix="give what geomm.fit(...) returns")
    check_kind(contract, InputContract, "there is no contract", fix="write InputContract.of(cube, names, classes)")
    check_kind(name, str, "the title of a model is a text", fix='write name="Clouds"')
    spec = fitted.model.spec
    classes = len(contract.classes) if spec.task == "contrastive" else spec.outputs
    normalised = {n: len(v) for n, v in fitted.normaliser.mean.items() if n in spec.modalities}
    bands = {n: len(m.bands) for n, m in contract.modalities.items()}
    for what, model, told in (
        ("modalities", list(spec.modalities), list(contract.modalities)),
        ("bands", dict(spec.modalities), bands),
        ("bands in its normaliser", normalised, bands),
        ("classes", classes, len(contract.classes)),
    ):
        if model != told:
            raise ContractError(
                f"the model has other {what} than its contract",
                why=f"the model {model}, the contract {told}",
                fix="write InputContract.of(cube, names, classes) with what it was trained on, in its order",
            )


def plain(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return metrics as JSON types; numbers and arrays of NumPy become plain ones.

    Raises:
        ConfigError: they cannot be kept as JSON.
    """
    fix = 'write metrics={"mean_iou": 0.7}'
    check_kind(metrics or {}, Mapping, "metrics are a mapping of names", fix=fix)
    try:
        return dict(json.loads(json.dumps(dict(metrics or {}), default=lambda value: value.tolist())))
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError("metrics cannot be kept as JSON", why=str(error), fix=fix) from error
