"""What charts are given: whatever else it is, the message says what to write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from geomm.errors import ConfigError
from geomm.metrics import Interval, Reliability

type Runs = Sequence[float] | Sequence[Sequence[float]]
"""Losses of one training, step by step, or of several."""


def seeds_of(found: Any) -> list[Reliability]:
    """Return the calibration of one model, or of each seed, as a list.

    Raises:
        ConfigError: there is none, or it is something else.
    """
    seeds = [found] if isinstance(found, Reliability) or not isinstance(found, Sequence) else list(found)
    wrong = [s for s in seeds if not isinstance(s, Reliability)]
    if wrong or not seeds:
        raise ConfigError(
            "a reliability diagram needs predictions",
            why=f"{_told(wrong[0])} is no Reliability" if wrong else "none is given",
            fix="give what evaluate(...).reliability holds, or Reliability.of(probability, target)",
        )
    return seeds


def check_intervals(rows: Any, label: Any) -> None:
    """Refuse what is no mapping of names to intervals.

    Raises:
        ConfigError: there is no row, or it is something else.
    """
    if not isinstance(label, str):
        raise ConfigError("the label says what the figure is", where=_told(label), fix='write "mean IoU"')
    if not isinstance(rows, Mapping) or not rows:
        fix = 'give a name and its Interval at least: {"both": Interval(0.8, 0.7, 0.9)}'
        raise ConfigError("a chart of intervals needs a row", where=label, why=f"got {_told(rows)}", fix=fix)
    _check_values(rows)


def check_subsets(found: Any, label: Any) -> None:
    """Refuse what is no mapping of modalities to intervals.

    Raises:
        ConfigError: there is no subset, or it is something else.
    """
    if not isinstance(found, Mapping) or not found:
        fix = "evaluate subsets(names), each with only=..."
        raise ConfigError("a chart of missing modalities needs a subset", where=str(label), fix=fix)
    for subset in found:
        if not isinstance(subset, tuple) or not subset or not all(isinstance(n, str) for n in subset):
            fix = 'write {("optical", "thermal"): ..., ("optical",): ...}, as subsets(names) returns them'
            raise ConfigError("modalities that a model saw are a tuple of names", where=_told(subset), fix=fix)
    check_intervals(found, label)


def runs_of(losses: Any) -> dict[str, list[Sequence[float]]]:
    """Return the losses of each run by name; those of one run may stand alone.

    Raises:
        ConfigError: there is no loss, or it is something else.
    """
    fix = 'give the losses of a fitted model, by name: {"fused": fitted.losses}'
    if not isinstance(losses, Mapping):
        raise ConfigError("losses go by the name of their row", where=_told(losses), fix=fix)
    rows = {}
    for name, given in losses.items():
        try:
            runs = [given] if np.ndim(given[0] if len(given) else given) == 0 else given
            tables = [np.asarray(run, float) for run in runs if len(run)]
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise ConfigError("losses are numbers", where=f"{name}: {_told(given)}", fix=fix) from error
        if not all(t.ndim == 1 for t in tables):
            raise ConfigError("losses are one number a step", where=f"{name}: {_told(given)}", fix=fix)
        rows[str(name)] = [t.tolist() for t in tables]
    if not any(rows.values()):
        raise ConfigError("a chart of losses needs some", fix=fix)
    return {name: runs for name, runs in rows.items() if runs}


def _check_values(rows: Mapping[Any, Any]) -> None:
    for name, found in rows.items():
        if not isinstance(found, Interval):
            raise ConfigError(
                "a figure comes with its interval",
                where=f"{name}: {_told(found)}",
                why=f"{type(found).__name__} is no Interval",
                fix="write Interval(value, low, high), or take one of geomm.metrics.block_bootstrap",
            )


def _told(given: Any) -> str:
    return f"{type(given).__name__} {given!r}"[:80]
