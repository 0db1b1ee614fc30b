"""Weights from a file or from torchgeo's store, held against a network before they are loaded into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomm.errors import PackageError

_SHOWN = 4
"""Names that a message lists."""


@dataclass(frozen=True, slots=True)
class Tolerated:
    """Names, by their beginnings, that a file and a network need not have in common."""

    missing: tuple[str, ...] = ()
    """What a file may lack; the network keeps what it started with."""
    leftover: tuple[str, ...] = ()
    """What a file may have that the network does not use."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights, safetensors or what torch loads with ``weights_only``.

    Args:
        path: nested dicts are flattened, their names joined by dots; of a checkpoint only the network is taken.

    Raises:
        PackageError: it cannot be read, or holds no weights.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            raw: Any = load_file(path)
        else:
            raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PackageError(
            "the weights cannot be read",
            where=str(path),
            why=str(error)[:200],
            fix="check the path; a file that broke off must be fetched again",
        ) from error
    return flat_weights(raw, str(path))


def fetch_weights(chosen: Any) -> dict[str, Tensor]:
    """Download weights of torchgeo, or take them from torch's cache; their hash is checked.

    Args:
        chosen: a member of one of torchgeo's enums of weights.

    Raises:
        PackageError: they cannot be had.
    """
    try:
        raw = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except Exception as error:
        raise PackageError(
            "the weights cannot be downloaded",
            where=str(chosen.url),
            why=str(error)[:200],
            fix="download the file on another machine and give its path as weights",
        ) from error
    return flat_weights(raw, str(chosen.url))


def flat_weights(raw: Any, where: str) -> dict[str, Tensor]:
    """Return the tensors of nested dicts by their joined names.

    Raises:
        PackageError: there is none.
    """
    for wrapper in ("state_dict", "model"):
        if isinstance(raw, Mapping) and isinstance(raw.get(wrapper), Mapping):
            raw = raw[wrapper]
    state = dict(_leaves(raw, "")) if isinstance(raw, Mapping) else {}
    if not state:
        raise PackageError(
            "the file holds no weights",
            where=where,
            why=f"a {type(raw).__name__} without tensors",
            fix="give a file of a state dict: .safetensors, or .pth saved with torch.save(model.state_dict(), FILE)",
        )
    return state


def _leaves(raw: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for key, value in raw.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            yield f"{prefix}{key}", value


def load_weights(network: nn.Module, state: Mapping[str, Tensor], tolerated: Tolerated, *, where: str) -> None:
    """Load what fits; learned positions are brought to the grid of the network.

    Args:
        network: to load into.
        state: tensors by name.
        tolerated: names that may differ.
        where: file or address, for messages.

    Raises:
        PackageError: other names are missing or left over, or shapes differ.
    """
    own = network.state_dict()
    state = _with_positions(state, own)
    wrong = {
        "missing": [k for k in own if k not in state and not k.startswith(tolerated.missing)],
        "left over": [k for k in state if k not in own and not k.startswith(tolerated.leftover)],
        "of another shape": [
            f"{k} {tuple(state[k].shape)} instead of {tuple(v.shape)}"
            for k, v in own.items()
            if k in state and state[k].shape != v.shape
        ],
    }
    if any(wrong.values()):
        why = "; ".join(f"{len(names)} {what}: {', '.join(names[:_SHOWN])}" for what, names in wrong.items() if names)
        allowed = ", ".join((*tolerated.missing, *tolerated.leftover)) or "none"
        raise PackageError(
            "the weights do not fit the encoder",
            where=where,
            why=f"{why}; names that may differ begin with: {allowed}",
            fix="choose the encoder and the bands that the file was made for",
        )
    network.load_state_dict({k: v for k, v in state.items() if k in own}, strict=False)


def _with_positions(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Resize positions of one square grid to another, as torchgeo does for Panopticon."""
    name = "pos_embed"
    if name not in state or name not in own or state[name].shape == own[name].shape:
        return state
    sides = [isqrt(p.shape[1] - 1) if p.ndim == 3 else 0 for p in (state[name], own[name])]
    counts = [side**2 + 1 for side in sides]
    if counts != [p.shape[1] for p in (state[name], own[name])]:
        return state
    from torchgeo.models.copernicusfm import resize_abs_pos_embed

    return {**state, name: resize_abs_pos_embed(state[name], sides[1], sides[0])}
