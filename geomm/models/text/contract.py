"""What a text encoder is, and the pretrained towers that some are made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn


class TextEncoder(nn.Module):
    """Turns texts into unit vectors. Its weights are its state dict, but for those that :meth:`save` writes."""

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``(B, D)``, float32."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:  # noqa: ARG002 - those that need nothing
        """Write what is needed to build it again without its source, beyond the state dict; here nothing.

        Args:
            folder: need not exist, and is not made where nothing is written.
        """
        return


class Tower(nn.Module):
    """A pretrained text model behind a :class:`TextEncoder`."""

    width: int
    """Length of its vectors."""
    rows: int = 1
    """Texts of one length that a CPU embeds at a time."""

    def read(self, text: str) -> dict[str, Any]:
        """Return the tokens of one text without padding: tensors with a leading axis of 1, and what else it needs."""
        raise NotImplementedError

    def forward(self, tokens: dict[str, Any]) -> Tensor:
        """Return unit vectors ``(B, width)`` of texts of one length."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write tokeniser, configuration and weights into an existing folder."""
        raise NotImplementedError
