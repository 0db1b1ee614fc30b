"""Text that is made from labels, for places where nobody wrote any."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np

from geomm.annotations.table import Annotations, area_of, complete
from geomm.catalog import parse_interval
from geomm.errors import ConfigError
from geomm.types import ClassSpec


def derive_annotations(
    fractions: Sequence[Sequence[float]],
    windows: Sequence[Any],
    classes: Sequence[ClassSpec],
    *,
    time: dt.date | str | None = None,
    source: str = "labels",
) -> Annotations:
    """Make text from labels, for places where nobody wrote any; every row says that it is derived.

    Args:
        fractions: ``(window, class)``, parts of each window's valid pixels.
        windows: boxes of degrees, GeoBoxes or geometries.
        classes: in the order of the fractions.
        time: of the labels.
        source: where they come from.

    Raises:
        ConfigError: there is not one window for each row of fractions, or one class for each column; or a fraction is
            no part of one.
        CatalogError: the time cannot be understood.
    """
    import geopandas

    rows_of_one = fractions is not None and all(hasattr(f, "__len__") for f in fractions)
    if not rows_of_one or windows is None:
        fix = "give lists: derive_annotations([[0.7, 0.3]], [grid], classes)"
        raise ConfigError("fractions are a row for every window", where=repr(fractions)[:80], fix=fix)
    wrong = [c for c in classes if not isinstance(c, ClassSpec)]
    widths = sorted({len(f) for f in fractions} - {len(classes)})
    if wrong or widths or len(windows) != len(fractions):
        why = f"{len(fractions)} rows, {len(windows)} windows, {len(classes)} classes"
        raise ConfigError(
            "fractions, windows and classes do not fit",
            why=f"{wrong[0]!r} is no ClassSpec"[:80] if wrong else why + (f", rows of {widths}" if widths else ""),
            fix="give a window for each row of fractions and a ClassSpec for each column",
        )
    when = parse_interval(time)[0]
    rows = {"text": [derive_text(f, classes) for f in fractions], "derived": True, "datetime": when, "source": source}
    geometry = [area_of(w) for w in windows]
    return complete(geopandas.GeoDataFrame(rows, geometry=geometry, crs="EPSG:4326"))


def derive_text(fractions: Sequence[float], classes: Sequence[ClassSpec]) -> str:
    """Describe a chip by its label fractions, for places where nobody wrote a text. Mark it as derived.

    Raises:
        ConfigError: a fraction is below 0 or beyond 1.

    >>> from geomm.types import ClassSpec
    >>> derive_text([0.7, 0.3], [ClassSpec(1, "water", "#0000ff"), ClassSpec(2, "trees", "#00ff00")])
    'mostly water, some trees'
    """
    if any(not -1e-6 <= share <= 1 + 1e-6 for share in fractions if share == share):  # noqa: PLR0124 not NaN
        fix = "give parts of one: 0.7 for 70 percent"
        raise ConfigError("the fractions are no parts of one", where=f"{list(fractions)}"[:80], fix=fix)
    words = []
    for k in np.argsort(-np.asarray(fractions), kind="stable"):
        share = fractions[k]
        if share >= 0.05:
            words.append(f"{'only' if share > 0.95 else 'mostly' if share >= 0.5 else 'some'} {classes[k].name}")
    return ", ".join(words) or "nothing labelled"
