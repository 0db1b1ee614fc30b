"""Text towers of open_clip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from geomm.errors import PackageError
from geomm.models.text.contract import Tower
from geomm.models.text.openclip import (
    ClipSource,
    build_open_clip,
    build_tokeniser,
    find_open_clip,
    save_open_clip,
    saved_open_clip,
)

_TEXT = "text.safetensors"


class OpenClipTower(Tower):
    """The text tower of an open_clip model, with its own projection into the space of images.

    Args:
        source: what it was built from.
        text: the tower.
        tokeniser: of :func:`build_tokeniser`.
    """

    def __init__(self, source: ClipSource, text: nn.Module, tokeniser: Any) -> None:
        super().__init__()
        self.source, self.text, self.tokeniser = source, text, tokeniser
        self.width = int(source.config["embed_dim"])

    def read(self, text: str) -> dict[str, Any]:
        """Return the tokens of one text, filled up to the context that the tower was trained with."""
        return {"input_ids": self.tokeniser([text])}

    def forward(self, tokens: dict[str, Any]) -> Tensor:
        """Return unit vectors ``(B, width)``."""
        return functional.normalize(self.text(tokens["input_ids"]), dim=-1)

    def save(self, folder: Path) -> None:
        """Write configuration, tokeniser and the weights of the text tower alone."""
        from safetensors.torch import save_file

        save_open_clip(self.source, nn.ModuleDict({"text": self.text}), self.tokeniser, folder)
        save_file({k: v.detach().contiguous().clone() for k, v in self.text.state_dict().items()}, folder / _TEXT)


def load_open_clip_text(name: str, folder: Path | None) -> OpenClipTower:
    """Load the text tower of a model.

    Args:
        name: see :func:`find_open_clip`.
        folder: what :meth:`OpenClipTower.save` wrote, used instead of the name.

    Raises:
        DependencyError: open_clip is not installed.
        UnknownNameError: no such model, or no such tag of it.
        PackageError: a folder without a model, or weights that do not fit.
    """
    from safetensors.torch import load_file

    source = saved_open_clip(folder) if folder else find_open_clip(name)
    text = _text_of(source, build_open_clip(source, text_alone=folder is not None))
    if folder:
        try:
            text.load_state_dict(load_file(folder / _TEXT))
        except Exception as error:
            raise PackageError(
                "the text tower cannot be read",
                where=str(folder),
                why=str(error)[:200],
                fix="run `geomm verify MODEL`, and copy the model package again",
            ) from error
    return OpenClipTower(source, text, build_tokeniser(source))


def _text_of(source: ClipSource, network: nn.Module) -> nn.Module:
    """Take the text tower out of a model."""
    if hasattr(network, "text"):
        return network.text  # type: ignore[return-value]
    tower: nn.Module = build_open_clip(replace(source, weights=""), text_alone=True).text  # type: ignore[assignment]
    own = network.state_dict()
    tower.load_state_dict({k: own[k] for k in tower.state_dict()})
    return tower
