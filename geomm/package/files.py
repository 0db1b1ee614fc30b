"""Write and open a model package."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.errors import OutputError, PackageError
from geomm.package.contract import InputContract
from geomm.package.describe import mlm_item, model_card
from geomm.types import ClassSpec, Modality

if TYPE_CHECKING:
    from geomm.tasks import Task
    from geomm.train import Fitted

FILES = ("model.safetensors", "mlm.json", "README.md")


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """An opened package. Opening reads no weights; :meth:`model` does."""

    path: Path
    """Its folder."""
    contract: InputContract
    """What it wants."""
    spec: Mapping[str, Any]
    """How to build it, see :class:`geomm.models.multimodal.ModelSpec`."""
    normalisation: Mapping[str, Any]
    """Mean and standard deviation per modality and band."""
    sha256: str
    """Hash of the weights: the identity of the model."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """How well it did, as the training run reported it."""
    temperature: float = 1.0
    """What logits are divided by, so that probabilities mean what they say."""

    def model(self) -> Fitted:
        """Build the network and load its weights.

        Raises:
            PackageError: the weights do not fit the description.
        """
        from safetensors.torch import load_file

        from geomm.models.multimodal import ModelSpec, MultimodalModel
        from geomm.train import Fitted
        from geomm.transforms import Normaliser

        network = MultimodalModel(ModelSpec.from_json(self.spec))
        try:
            network.load_state_dict(load_file(self.path / "model.safetensors"))
        except (RuntimeError, OSError) as error:
            raise PackageError("the weights do not fit the model", where=str(self.path), why=str(error)) from error
        return Fitted(network.eval(), Normaliser.from_json(self.normalisation), (), temperature=self.temperature)

    def task(self) -> Task:
        """Return the task that decodes its answers."""
        from geomm.tasks import get_task

        return get_task(str(self.spec["task"]), self.contract.classes)


def save_package(
    fitted: Fitted, contract: InputContract, folder: str | Path, *, name: str, metrics: Mapping[str, Any] | None = None
) -> ModelPackage:
    """Write a package; it appears whole or not at all, and replaces an older one.

    Args:
        fitted: the trained model.
        contract: what it wants.
        folder: of the package.
        name: title of the model.
        metrics: what the card should say about its quality, JSON types.

    Raises:
        OutputError: the folder cannot be written, or holds something else.
    """
    from safetensors.torch import save_file

    target = Path(folder)
    if target.exists() and not (target / "mlm.json").is_file():
        raise OutputError("the folder holds something else than a model package", where=str(folder))
    staging = target.with_name(f".{target.name}.staging-{os.getpid()}")
    try:
        staging.mkdir(parents=True)
        weights = {k: v.detach().contiguous().clone() for k, v in fitted.model.state_dict().items()}
        save_file(weights, staging / "model.safetensors")
        item = mlm_item(fitted, contract, name, dict(metrics or {}))
        (staging / "mlm.json").write_text(json.dumps(item, indent=2))
        (staging / "README.md").write_text(model_card(contract, name, dict(metrics or {})))
        sums = "".join(f"{_sha256(staging / f)}  {f}\n" for f in FILES)
        (staging / "SHA256SUMS").write_text(sums)
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    except OSError as error:
        raise OutputError("the model package cannot be written", where=str(target), why=str(error)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_package(target)


def load_package(folder: str | Path) -> ModelPackage:
    """Open a package and verify its checksums.

    Raises:
        PackageError: a file is missing, changed or cannot be understood.
    """
    path = Path(folder)
    try:
        sums = {
            name: digest
            for digest, name in (line.split("  ", 1) for line in (path / "SHA256SUMS").read_text().splitlines())
        }
        for name in FILES:
            if sums.get(name) != _sha256(path / name):
                raise PackageError(
                    "a file of the model package was changed",
                    where=str(path / name),
                    why="its SHA-256 differs from SHA256SUMS",
                    fix="fetch or train the model again",
                )
        properties = json.loads((path / "mlm.json").read_text())["properties"]
        raw = properties["geomm:contract"]
        contract = InputContract(
            {k: Modality(v["sensor"], tuple(v["bands"])) for k, v in raw["modalities"].items()},
            raw["units"],
            tuple(ClassSpec(**c) for c in raw["classes"]),
            resolution=raw["resolution"],
            size=raw["size"],
            halo=raw["halo"],
            required=tuple(raw["required"]),
        )
        return ModelPackage(
            path,
            contract,
            properties["geomm:spec"],
            properties["geomm:normalisation"],
            sums["model.safetensors"],
            properties.get("geomm:metrics", {}),
            properties.get("geomm:temperature", 1.0),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, PackageError):
            raise
        raise PackageError(
            "this is not a model package",
            where=str(folder),
            why=f"{type(error).__name__}: {error}",
            fix="a package is a folder with model.safetensors, mlm.json, README.md and SHA256SUMS",
        ) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
