"""Text encoders: sentences to unit vectors. With :mod:`geomm.models.clip` the only door to their libraries.

A name is ``tiny`` (local, learns its words), ``sentence:<name on the hub or folder>`` (sentence-transformers),
``sentence:package:<Python package>`` (a model inside an installed package) or ``open_clip:<model>[:<weights>]`` (the
text tower of an open_clip model; weights are a tag that open_clip lists or a file, none for random ones). Pretrained
towers are frozen and have a projection that learns. Nothing is unpickled and no code of a model is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from geomm.errors import PackageError, UnknownNameError
from geomm.models.text.cliptower import load_open_clip_text
from geomm.models.text.contract import TextEncoder, Tower
from geomm.models.text.frozen import ABOUT, TowerText
from geomm.models.text.sentence import load_sentence
from geomm.models.text.tiny import TinyText, tokenise

__all__ = ["TOWERS", "TextEncoder", "TinyText", "TowerText", "build_text", "tokenise"]

TOWERS: Mapping[str, Callable[[str, Path | None], Tower]] = MappingProxyType(
    {"sentence": load_sentence, "open_clip": load_open_clip_text}
)
"""Family to loader of (rest of the name, folder of a package)."""


def build_text(name: str, outputs: int, *, folder: Path | None = None) -> TextEncoder:
    """Build a text encoder by name.

    Args:
        name: see the module's docstring.
        outputs: length of its vectors.
        folder: what :meth:`TextEncoder.save` wrote; the source that the name says is not looked at then.

    Raises:
        UnknownNameError: no such family, model or weights.
        DependencyError: a library or a Python package is not installed.
        PackageError: a folder that holds no model, or weights that cannot be had.
    """
    if name == "tiny":
        return TinyText(outputs)
    family, _, rest = name.partition(":")
    if family not in TOWERS or not rest:
        known = ("tiny", "sentence:<model or folder>", "open_clip:<model>[:<weights>]")
        raise UnknownNameError.of("text encoder", name, known)
    if folder is None:
        return TowerText(TOWERS[family](rest, None), outputs, family)
    about = _about(folder, family)
    encoder = TowerText(TOWERS[family](rest, folder), outputs, family)
    return encoder.tune() if about.get("tuned") else encoder


def _about(folder: Path, family: str) -> dict[str, object]:
    """Read what a saved folder holds.

    Raises:
        PackageError: it cannot be read, or is of another family.
    """
    try:
        about = json.loads((folder / ABOUT).read_text())
        kind = about["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PackageError(
            "the folder holds no text encoder",
            where=str(folder),
            why=f"looked for {ABOUT}: {error}",
            fix="give a folder text of a model package",
        ) from error
    if kind != family:
        raise PackageError(
            "the folder holds another text encoder",
            where=str(folder),
            why=f"{kind}, not {family}",
            fix=f"name it as {kind}, or give a folder of {family}",
        )
    return dict(about)
