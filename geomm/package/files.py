"""Write and open a model package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.errors import OutputError, PackageError
from geomm.package.checks import check_package, plain
from geomm.package.contract import InputContract
from geomm.package.describe import mlm_item, model_card
from geomm.types import ClassSpec, Modality
from geomm.whole import whole_folder

if TYPE_CHECKING:
    from geomm.tasks import Task
    from geomm.train import Fitted

FILES = ("model.safetensors", "mlm.json", "README.md")
"""What every package has."""

TEXT = "text"
"""Folder of what a text encoder needs beyond ``model.safetensors``: tokeniser, configuration, a tower's weights."""

TOWER = "text.tower."
"""Names of the weights of a text encoder's tower that was tuned: they are in that folder instead."""


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
    """Hash of the weights, and of what a text encoder needs beyond them: the identity of the model."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    """How well it did, as the training run reported it."""
    temperature: float = 1.0
    """What logits are divided by, so that probabilities mean what they say."""

    def _repr_html_(self) -> str:
        from geomm.package.look import package_card

        return package_card(self)

    def model(self) -> Fitted:
        """Build the network and load its weights.

        Raises:
            PackageError: the weights do not fit the description.
        """
        from safetensors.torch import load_file

        from geomm.models.clip import ClipModel, is_clip
        from geomm.models.multimodal import ModelSpec, MultimodalModel
        from geomm.train import Fitted
        from geomm.transforms import Normaliser

        spec = ModelSpec.from_json(self.spec)
        text = self.path / TEXT if (self.path / TEXT).is_dir() else None
        network: Any = (ClipModel if is_clip(spec) else MultimodalModel)(spec, text_folder=text)
        try:
            missing, left = network.load_state_dict(load_file(self.path / "model.safetensors"), strict=False)
            wrong = [*(n for n in missing if not n.startswith(TOWER)), *left]
            if wrong:
                raise PackageError(
                    "the weights do not fit the model",
                    where=str(self.path),
                    why=f"{len(wrong)} missing or left over: {', '.join(wrong[:4])}",
                    fix="run `geomm verify MODEL`; if it is whole, load it with the geomm that wrote it",
                )
        except (RuntimeError, OSError) as error:
            raise PackageError(
                "the weights do not fit the model",
                where=str(self.path),
                why=str(error),
                fix="run `geomm verify MODEL`; if it is whole, load it with the geomm that wrote it",
            ) from error
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
        metrics: what the card should say about its quality, JSON types, or numbers of NumPy.

    Raises:
        ConfigError: an argument is of another kind.
        ContractError: the model has other modalities, bands or classes than the contract.
        OutputError: the folder cannot be written, or holds something else.
    """
    from safetensors.torch import save_file

    check_package(fitted, contract, name)
    told = plain(metrics)
    target = Path(folder)
    if target.exists() and not (target / "mlm.json").is_file():
        raise OutputError(
            "the folder holds something else than a model package",
            where=str(folder),
            fix="name a new folder, or one that holds a model package",
        )
    try:
        with whole_folder(target) as aside:
            state = {k: v for k, v in fitted.model.state_dict().items() if not k.startswith(TOWER)}
            save_file({k: v.detach().contiguous().clone() for k, v in state.items()}, aside / "model.safetensors")
            _save_text(fitted.model, aside / TEXT)
            item = mlm_item(fitted, contract, name, told)
            (aside / "mlm.json").write_text(json.dumps(item, indent=2))
            (aside / "README.md").write_text(model_card(fitted.model.spec, contract, name, told))
            sums = "".join(f"{_sha256(aside / f)}  {f}\n" for f in (*FILES, *_text_files(aside)))
            (aside / "SHA256SUMS").write_text(sums)
    except OSError as error:
        raise OutputError(
            "the model package cannot be written",
            where=str(target),
            why=str(error),
            fix="name a folder that you may write to, and free space on its disk",
        ) from error
    return load_package(target)


def load_package(folder: str | Path) -> ModelPackage:
    """Open a package and verify its checksums.

    Raises:
        PackageError: a file is missing, changed or cannot be understood.
    """
    given: object = folder
    if not isinstance(given, (str, Path)):
        fix = "give the folder of a model package, for example demo/model"
        raise PackageError("this is not a model package", where=repr(given)[:80], fix=fix)
    path = Path(folder)
    try:
        sums = _verified(path)
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
            _identity(sums),
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
            fix=_where_it_may_be(path),
        ) from error


def _where_it_may_be(path: Path) -> str:
    """Return the package that was probably meant, or what one is."""
    near = sorted([*path.glob("model/SHA256SUMS"), *path.glob("seed-*/model/SHA256SUMS")])
    if near or (path.parent / "SHA256SUMS").is_file():
        return f"did you mean {str(near[0].parent if near else path.parent)!r}?"
    return f"a package is a folder with {', '.join(FILES)} and SHA256SUMS, such as RUN/model after `geomm run`"


def _save_text(model: Any, folder: Path) -> None:
    """Write what the model's text encoder needs, if it needs anything; a dual encoder writes its own."""
    encoder = getattr(model, "text", None) or model
    if hasattr(encoder, "save"):
        encoder.save(folder)


def _text_files(folder: Path) -> list[str]:
    """Return all files of the text encoder, as they are written in SHA256SUMS."""
    return sorted(
        p.relative_to(folder).as_posix() for p in (folder / TEXT).rglob("*") if p.is_symlink() or not p.is_dir()
    )


def _verified(path: Path) -> dict[str, str]:
    """Read SHA256SUMS and hold every file of the package against it.

    Raises:
        PackageError: a file differs, or the text encoder has a file that is not listed: its library might read it.
    """
    lines = (line.split("  ", 1) for line in (path / "SHA256SUMS").read_text().splitlines())
    sums = {name: digest for digest, name in lines}
    here = _text_files(path)
    for name in (*FILES, *here):
        if name not in sums:
            raise PackageError(
                "a file of the model package is not listed",
                where=str(path / name),
                why="it is not in SHA256SUMS",
                fix="remove it, or fetch the model again",
            )
    for name in (*FILES, *(n for n in sums if n not in FILES)):
        if name not in FILES and name not in here:
            raise PackageError("a file of the model package is missing", where=str(path / name), fix="fetch it again")
        if sums[name] != _sha256(path / name):
            raise PackageError(
                "a file of the model package was changed",
                where=str(path / name),
                why="its SHA-256 differs from SHA256SUMS",
                fix="fetch or train the model again",
            )
    return sums


def _identity(sums: Mapping[str, str]) -> str:
    """Return the hash of the weights, or of the hashes where a text encoder has files of its own."""
    names = [n for n in sorted(sums) if n.startswith(f"{TEXT}/")]
    if not names:
        return sums["model.safetensors"]
    parts = "".join(f"{sums[n]}  {n}\n" for n in ("model.safetensors", *names))
    return hashlib.sha256(parts.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
