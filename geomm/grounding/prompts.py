"""Prompts: classes in words, as a file that travels with every number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml

from geomm.errors import ConfigError
from geomm.types import ClassSpec, check_classes, check_kind, check_known


class TextVectors(Protocol):
    """What turns texts into unit vectors; :class:`geomm.retrieval.embedder.Embedder` does."""

    def text(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 ``(n, D)``."""
        ...


@dataclass(frozen=True, slots=True)
class Prompts:
    """Classes in words."""

    classes: tuple[ClassSpec, ...]
    """Code, name and colour of each."""
    words: Mapping[str, tuple[str, ...]]
    """Name of a class to what it is called; its vector is the mean over all."""
    templates: tuple[str, ...] = ("{}",)
    """Sentences that the words are put into."""

    def __post_init__(self) -> None:
        fix = 'write Prompts.of("a lake", "a town"), or read_prompts("prompts.yaml")'
        check_classes(self.classes)
        check_kind(self.words, Mapping, "words are a mapping of the names of classes", fix=fix)
        object.__setattr__(self, "words", {n: _texts(w) for n, w in self.words.items()})
        object.__setattr__(self, "templates", _texts(self.templates))
        names = [c.name for c in self.classes]
        lacking = [n for n in names if not any(w.strip() for w in self.words.get(n, ()))]
        if lacking or not names:
            raise ConfigError(
                "prompts need classes with words",
                why=f"no words for {', '.join(lacking)}" if lacking else f"names {', '.join(names) or 'none'}",
                fix="give every class a name, a code and at least one phrase of its own",
            )
        if not self.templates or any(t.count("{}") != 1 for t in self.templates):
            raise ConfigError(
                "a template has one {} for the words",
                why=f"got {list(self.templates)!r}",
                fix='write templates such as "a satellite picture of {}"',
            )

    @classmethod
    def of(cls, *names: str) -> Prompts:
        """Return classes that are called by their names, given one by one or as a list.

        >>> Prompts.of("a lake", "a town").texts("a town")
        ['a town']
        """
        import colorsys

        first: Any = names[0] if len(names) == 1 else None
        names = tuple(first) if isinstance(first, (list, tuple)) else names
        hues = [colorsys.hsv_to_rgb(k / max(len(names), 1), 0.55, 0.85) for k in range(len(names))]
        colors = ["#" + "".join(f"{round(255 * v):02x}" for v in rgb) for rgb in hues]
        classes = [ClassSpec(k, n, c) for k, (n, c) in enumerate(zip(names, colors, strict=True))]
        return cls(tuple(classes), {n: (n,) for n in names})

    @property
    def sha256(self) -> str:
        """Hash of all that decides the vectors, and of their codes."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def texts(self, name: str) -> list[str]:
        """Return all sentences of a class.

        Raises:
            UnknownNameError: there is no such class.
        """
        check_known("class of the prompts", name, self.words)
        return [t.replace("{}", w) for w in self.words[name] for t in self.templates]

    def vectors(self, embedder: TextVectors) -> np.ndarray:
        """Return one unit vector for every class, float32 ``(K, D)``: the direction of the mean of its sentences'."""
        means = [embedder.text(self.texts(c.name)).mean(0) for c in self.classes]
        return np.stack([m / np.linalg.norm(m) for m in means])

    def to_json(self) -> dict[str, Any]:
        """Return plain types, those of the file."""
        rows = [
            {"value": c.value, "name": c.name, "color": c.color, "words": list(self.words[c.name])}
            for c in self.classes
        ]
        return {"templates": list(self.templates), "classes": rows}


def _texts(given: Any) -> tuple[str, ...]:
    """Return texts; one that is no list is the only one."""
    fix = 'give a text, or a list of them: words={"lake": ("a lake", "open water")}'
    check_kind(given, (str, list, tuple), "words and templates are texts", fix=fix)
    texts = (given,) if isinstance(given, str) else tuple(given)
    for text in texts:
        check_kind(text, str, "words and templates are texts", fix=fix)
    return texts


def read_prompts(path: str | Path) -> Prompts:
    """Read prompts from YAML.

    The file has ``classes``, each with ``value``, ``name``, ``color`` and optionally ``words`` (default its name), and
    optionally ``templates``, such as ``"a satellite image of {}"``.

    Raises:
        ConfigError: the file cannot be read or understood.
    """
    try:
        raw = yaml.safe_load(Path(path).read_text())
        rows = raw["classes"]
        classes = tuple(ClassSpec(int(r["value"]), str(r["name"]), str(r["color"])) for r in rows)
        words = {str(r["name"]): _listed(r.get("words", r["name"])) for r in rows}
        unknown = {k for r in rows for k in r} - {"value", "name", "color", "words"} | set(raw) - {
            "classes",
            "templates",
        }
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            "the prompts cannot be read",
            where=str(path),
            why=f"{type(error).__name__}: {error}",
            fix="classes: [{value: 1, name: lake, color: '#2b6cb0', words: [a lake, open water]}]",
        ) from error
    if unknown:
        raise ConfigError(
            "the prompts hold unknown keys",
            where=str(path),
            why=", ".join(sorted(unknown)),
            fix="a file of prompts has classes, and may have templates and background; remove what else it has",
        )
    return Prompts(classes, words, _listed(raw.get("templates", "{}")))


def _listed(given: Any) -> tuple[str, ...]:
    """Return what a file lists as texts, or the one that it holds."""
    return tuple(map(str, given)) if isinstance(given, list) else (str(given),)
