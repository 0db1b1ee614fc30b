"""A pretrained tower with a projection: frozen unless asked otherwise, and asked once per distinct text."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomm.models.text.contract import TextEncoder, Tower

ABOUT = "encoder.json"
"""File that says what a saved folder holds."""

ROWS = 32
"""Texts of one length that a GPU embeds at a time; see :attr:`Tower.rows` for CPUs. The shape is always full, so that a
vector does not depend on how many neighbours it has."""


class Remembered:
    """Vectors of the texts that were used last, on the CPU; copies of it start empty.

    Args:
        limit: most texts, at least 0.
    """

    def __init__(self, limit: int = 16384) -> None:
        self.limit = limit
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, text: str) -> Tensor | None:
        """Return the vector of a text, None where it is not known."""
        if text in self._kept:
            self._kept.move_to_end(text)
        return self._kept.get(text)

    def put(self, text: str, vector: Tensor) -> None:
        """Keep a vector; the text that was not used for longest makes room."""
        self._kept[text] = vector
        while len(self._kept) > self.limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.limit,)


class TowerText(TextEncoder):
    """A linear projection of a tower's vectors.

    A frozen tower is no part of ``parameters()``, of ``train()`` and of the state dict, but follows ``to()`` and
    copies. The projection begins as the identity, or as a rotation that keeps angles as well as its size allows.

    Args:
        tower: in evaluation mode.
        outputs: length of the vectors.
        kind: family of the tower, for :meth:`save`.
    """

    def __init__(self, tower: Tower, outputs: int, kind: str) -> None:
        super().__init__()
        self.kind, self.tuned = kind, False
        self.remembered = Remembered()
        object.__setattr__(self, "tower", tower.eval().requires_grad_(requires_grad=False))
        self.project = nn.Linear(tower.width, outputs)
        if tower.width == outputs:
            nn.init.eye_(self.project.weight)
        else:
            nn.init.orthogonal_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def tune(self) -> TowerText:
        """Let the tower learn too, from now on; its weights become part of the state dict."""
        if not self.tuned:
            tower = self.__dict__.pop("tower")
            self.tower = tower.requires_grad_(requires_grad=True).train(self.training)
            self.tuned = True
            self.remembered.clear()
        return self

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Return unit vectors ``(B, D)``."""
        vectors = self._together(texts) if self.tuned else self._known(texts).to(self.project.weight)
        return functional.normalize(self.project(vectors), dim=-1)

    def save(self, folder: Path) -> None:
        """Write the tower with its tokeniser, and what it is.

        Raises:
            OSError: the folder cannot be written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.tower.save(folder)
        about = {"kind": self.kind, "width": self.tower.width, "tuned": self.tuned}
        (folder / ABOUT).write_text(json.dumps(about))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> TowerText:  # noqa: FBT001, FBT002 - torch's
        """Take a frozen tower along to another device or dtype."""
        if not self.tuned:
            self.tower._apply(fn)  # noqa: SLF001 - as torch does with children
        self.remembered.clear()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def _known(self, texts: Sequence[str]) -> Tensor:
        """Return the frozen tower's vectors ``(B, width)`` on the CPU, embedding each distinct text at most once."""
        asked = {t: self.remembered.get(t) for t in dict.fromkeys(texts)}
        found = {t: vector for t, vector in asked.items() if vector is not None}
        missing = [t for t in asked if t not in found]
        device = self._device()
        # With autocast, what is remembered would depend on who asked first.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            rows = self.tower.rows if device.type == "cpu" else ROWS
            for numbers, tokens in _batches([self.tower.read(t) for t in missing], rows):
                for number, vector in zip(numbers, self.tower(_moved(tokens, device)).cpu(), strict=False):
                    found[missing[number]] = vector
        for text in missing:
            self.remembered.put(text, found[text])
        return torch.stack([found[t] for t in texts]) if texts else torch.zeros(0, self.tower.width)

    def _together(self, texts: Sequence[str]) -> Tensor:
        """Return a tuned tower's vectors ``(B, width)``, texts of one length at a time."""
        device = self._device()
        vectors = torch.zeros(len(texts), self.tower.width, device=device)
        for numbers, tokens in _batches([self.tower.read(t) for t in texts], 0):
            place = torch.tensor(numbers, device=device)
            vectors = vectors.index_copy(0, place, self.tower(_moved(tokens, device)).to(vectors.dtype))
        return vectors

    def _device(self) -> torch.device:
        return self.project.weight.device


def _moved(tokens: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in tokens.items()}


def _batches(read: list[dict[str, Any]], rows: int) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Yield texts of one length together, by their numbers; nothing is padded.

    Args:
        read: tokens of every text.
        rows: of a batch, the last text repeated where there are fewer; 0 for all that have one length.
    """
    lengths: dict[tuple[int, ...], list[int]] = {}
    for number, tokens in enumerate(read):
        lengths.setdefault(tuple(tokens["input_ids"].shape), []).append(number)
    for shape, numbers in lengths.items():
        size = 1 if len(shape) != 2 else rows or len(numbers)
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            full = part + part[-1:] * (size - len(part) if rows else 0)
            yield (
                part,
                {
                    k: torch.cat([read[n][k] for n in full]) if isinstance(v, Tensor) else v
                    for k, v in read[part[0]].items()
                },
            )
