"""What to write in place of a field that is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_args, get_origin

from pydantic import ValidationError

from geomm.config.parts import Strict
from geomm.errors import did_you_mean

SYNONYMS: Mapping[str, str] = MappingProxyType(
    {
        "lr": "rate",
        "learning_rate": "rate",
        "batch_size": "batch",
        "epochs": "steps",
        "iterations": "steps",
        "backbone": "encoder",
        "dropout": "modality_dropout",
        "bbox": "aoi",
        "area": "aoi",
        "bounds": "aoi",
        "date": "datetime",
        "time": "datetime",
        "clouds": "cloud_cover",
        "colour": "color",
        "path": "folder",
        "layer": "layers",
    }
)
"""What others call a field, and what recipes call it."""
_TYPES = ("str", "int", "float", "bool", "list[int]", "dict[str,str]")
"""What a field may be, where it may be several things: named after its path, but no part of it."""


def explained(error: ValidationError, kind: type[Strict], *, whole: bool) -> str:
    """Say what is wrong with every field; see :func:`remedy`."""
    lines = []
    for problem in error.errors():
        owners, place = _owners(kind, problem["loc"], whole=whole)
        text = _told(problem)[0] or problem["msg"]
        if problem["type"] == "extra_forbidden":
            near = _near(str(problem["loc"][-1]), owners)
            text = "unknown key" + (f", did you mean {near}?" if near else "")
        lines.append(f"{place}: {text}" if place else text)
    return "; ".join(lines)


def remedy(error: ValidationError, kind: type[Strict], *, whole: bool) -> str:
    """Return what to write in place of the first wrong field.

    Args:
        error: of the check of a recipe.
        kind: of the recipe.
        whole: whether the recipe is one stage, whose fields are at its top.
    """
    problem = error.errors()[0]
    owners, place = _owners(kind, problem["loc"], whole=whole)
    if problem["type"] == "extra_forbidden":
        return _moved(str(problem["loc"][-1]), place, owners, kind)
    if problem["type"] == "missing":
        return f"add {place}; recipes to begin with are in pipelines/"
    if _told(problem)[1]:
        return _told(problem)[1]
    return _listed(problem, place, kind) or _corrected(problem, place)


def _told(problem: Any) -> tuple[str, str]:
    """Return what a record says of itself: what is wrong, and after a semicolon what to write."""
    what, _, fix = (str(problem["ctx"]["error"]) if problem["type"] == "value_error" else "").partition("; ")
    return what, fix


def _listed(problem: Any, place: str, kind: type[Strict]) -> str:
    """Return what may stand in a field that takes one of some names, or a section; nothing for other fields."""
    given, context = problem["input"], problem.get("ctx", {})
    known = re.findall("'([^']*)'", str(context.get("expected") or context.get("expected_tags") or ""))
    if known:
        wrong = str(given.get("kind") if isinstance(given, dict) else given)
        field = f"{place}.kind" if "expected_tags" in context else place
        return did_you_mean(wrong, known, f"write {field} as {' or '.join(known)}")
    if problem["type"] == "model_type":
        inner, _ = _owners(kind, (*problem["loc"], ""), whole=False)
        return f"write under {place} what it consists of: {', '.join(inner[0].model_fields)}"
    return ""


def _corrected(problem: Any, place: str) -> str:
    """Return how to write a value of another type."""
    given, leaf = problem["input"], place.rpartition(".")[2]
    key = "" if leaf.isdigit() else f"{leaf}: "
    if problem["type"] == "list_type" and isinstance(given, (str, int, float)):
        parts = [p.strip() for p in given.split(",")] if isinstance(given, str) else [str(given)]
        return f"write a list: {place}=[{', '.join(parts)}] with --set, {key}[...] in the file"
    if leaf == "color" and given is None:
        return f"quote the colour, as # begins a comment: {key}'#3f7f4f'"
    if problem["type"] == "string_type" and isinstance(given, (int, float)):
        return f"quote it: {key}'{given}'"
    if problem["type"] in ("int_type", "float_type") and re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", str(given)):
        return f"write a number, without quotes: {key}{float(given):.12g}"
    shown = f", which is {given!r}" if len(repr(given)) <= 60 else ""
    return f"correct {place or 'the recipe'}{shown}; recipes to begin with are in pipelines/"


def _moved(key: str, place: str, owners: list[type[Strict]], kind: type[Strict]) -> str:
    """Return where a key belongs that a section does not have: the right name here, or the section that has it."""
    near, above = _near(key, owners), place.rpartition(".")[0]
    here = f"{above}.{near}" if above else near
    section = f"{place.partition('.')[0]}."  # what another kind of stage has is no place for it
    known = [p for p in _places(kind) if p != here and not (above and p.startswith(section))]
    names = [key, SYNONYMS.get(key, key)]
    there = [p for p in known if p.rpartition(".")[2] in names]
    if not near and not there:
        names = difflib.get_close_matches(key, sorted({p.rpartition(".")[2] for p in known}), 1, 0.75)
        there = [p for p in known if p.rpartition(".")[2] in names]
    other = " or ".join(there)
    if near:
        meant = f", or {other} if that is meant" if key in {p.rpartition(".")[2] for p in there} else ""
        return f"write {here} in place of {place}{meant}"
    if there:
        return f"write {other} in place of {place}"
    return f"remove {place}; there are {', '.join(n for o in owners for n in o.model_fields if n != 'root')}"


def _near(key: str, owners: list[type[Strict]]) -> str:
    """Return the field of a section that another key stands for."""
    known = [n for o in owners for n in o.model_fields if n != "root"]
    if SYNONYMS.get(key) in known:
        return SYNONYMS[key]
    return next(iter(difflib.get_close_matches(key, known, 1, 0.7)), "")


def _owners(kind: type[Strict], loc: tuple[int | str, ...], *, whole: bool) -> tuple[list[type[Strict]], str]:
    """Return the records that a field belongs to, and its path as it is written in a recipe."""
    owners, shown = [kind], list[str]()
    for number, part in enumerate(map(str, loc), 1):
        tagged = [o for o in owners if len(owners) > 1 and part in get_args(o.model_fields["kind"].annotation)]
        if tagged:  # which of several kinds of stages it is: no part of the path
            owners = tagged
            continue
        shown.append(part)
        if number == len(loc):  # the field itself
            break
        inner = [r for o in owners if part in o.model_fields for r in _records(o.model_fields[part].annotation)]
        owners = inner or owners
    path = [p for p in shown if p not in _TYPES]
    if whole and path[:2] == ["stages", "0"]:
        path = path[2:]
    return owners, ".".join(path)


def _records(annotation: Any) -> list[type[Strict]]:
    """Return the records that a field holds."""
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [r for a in get_args(annotation) for r in _records(a)]


def _places(kind: type[Strict]) -> Iterator[str]:
    """Yield the paths of all fields of a recipe, down to those of its sections."""
    seen = set[str]()
    for name, field in kind.model_fields.items():
        if name != "root":
            yield name
        origin = get_origin(field.annotation)
        middle = ".NAME" if origin is dict else ".0" if origin is list else ""
        for record in _records(field.annotation):
            fresh = [f"{name}{middle}.{n}" for n in record.model_fields if f"{name}{middle}.{n}" not in seen]
            seen.update(fresh)
            yield from fresh
