"""Towers of sentence-transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from geomm.errors import DependencyError, GeommError, PackageError
from geomm.models.text.contract import Tower
from geomm.models.text.sources import EXTRA, local_folder

SIGN = "modules.json"
"""File that every folder of a sentence-transformers model has."""


class SentenceTower(Tower):
    """A sentence-transformers model: its own tokeniser, prompt, pooling and further layers.

    Args:
        model: a ``SentenceTransformer`` of texts.
    """

    rows = 8  # three times as many texts a second as one by one (MiniLM, one core); more gain nothing

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width = int(model.get_embedding_dimension())

    def read(self, text: str) -> dict[str, Any]:
        """Return the tokens of one text, after the prompt that the model has by default."""
        prompt = self.model.prompts.get(self.model.default_prompt_name or "")
        return dict(self.model.preprocess([text], prompt=prompt or None))

    def forward(self, tokens: dict[str, Any]) -> Tensor:
        """Return unit vectors ``(B, width)``."""
        return functional.normalize(self.model(tokens)["sentence_embedding"], dim=-1)

    def save(self, folder: Path) -> None:
        """Write the model as its library does, weights as safetensors."""
        with _quiet():
            self.model.save(str(folder), create_model_card=False, safe_serialization=True)


def load_sentence(name: str, folder: Path | None) -> SentenceTower:
    """Load a model.

    Args:
        name: on the hub, of a folder, or ``package:<Python package>``.
        folder: what :meth:`SentenceTower.save` wrote, used instead of the name.

    Raises:
        DependencyError: the library, or the package that carries the model, is not installed.
        PackageError: there is no such model, or it wants code of its own.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise DependencyError("sentence-transformers is not installed", why=str(error), fix=EXTRA) from error
    found = folder or local_folder(name, SIGN)
    try:
        with _quiet():
            model = SentenceTransformer(
                str(found or name),
                device="cpu",
                trust_remote_code=False,
                local_files_only=found is not None,
                model_kwargs={"dtype": torch.float32},
            )
        return SentenceTower(model)
    except Exception as error:
        if isinstance(error, GeommError):
            raise
        raise PackageError(
            "the text model cannot be loaded",
            where=str(found or name),
            why=f"{type(error).__name__}: {str(error)[:200]}",
            fix="check the folder" if found else "name a local folder, or fetch the model where the hub is in reach",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's progress bars off."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
