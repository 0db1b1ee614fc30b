"""Styles of vector layers for QGIS, and how a GeoPackage carries one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from geomm.export.style import VIRIDIS
from geomm.types import ClassSpec

FIXED = "2000-01-01T00:00:00.000Z"
"""What a GeoPackage says of when it was made, so that the same content gives the same bytes."""


def categories_qml(classes: Sequence[ClassSpec], column: str, *, other: str = "") -> str:
    """Return the style of polygons that are coloured by the names of their classes in a column.

    Args:
        classes: names and colours.
        column: of the names.
        other: what the legend calls polygons of no class, which are drawn as outlines; empty where there is none.
    """
    names = [(c.name, c.name) for c in classes] + ([("", other)] if other else [])
    categories = "".join(
        f'      <category value={quoteattr(value)} symbol="{k}" label={quoteattr(label)} render="true"/>\n'
        for k, (value, label) in enumerate(names)
    )
    symbols = "".join(_fill(k, c.rgb, outline="no") for k, c in enumerate(classes))
    symbols += _fill(len(classes), (128, 128, 128), style="no") if other else ""
    return _styled(
        f'  <renderer-v2 type="categorizedSymbol" attr="{column}">\n'
        f"    <categories>\n{categories}    </categories>\n    <symbols>\n{symbols}    </symbols>\n  </renderer-v2>\n"
    )


def ranked_qml(column: str, limits: tuple[float, float], label: str) -> str:
    """Return the style of polygons that are coloured by a number, and labelled.

    Args:
        column: of the number.
        limits: its least and greatest value.
        label: column of what stands in every polygon.
    """
    low, high = limits
    # Two more than there are classes of, so that rounding leaves no polygon out.
    ends = [low + (high - low) * k / len(VIRIDIS) for k in range(len(VIRIDIS) + 1)]
    ends[0], ends[-1] = low - 1e-6, high + 1e-6
    ranges = "".join(
        f'      <range lower="{ends[k]:.8g}" upper="{ends[k + 1]:.8g}" symbol="{k}" '
        f'label="{ends[k]:.3g} - {ends[k + 1]:.3g}" render="true"/>\n'
        for k in range(len(VIRIDIS))
    )
    colours = [ClassSpec(k, "", color).rgb for k, color in enumerate(VIRIDIS)]
    symbols = "".join(_fill(k, rgb, alpha=0.7) for k, rgb in enumerate(colours))
    text = (
        f'      <text-style fieldName="{label}" isExpression="0" fontFamily="Sans" fontSize="10">\n'
        '        <text-buffer bufferDraw="1" bufferSize="1" bufferColor="255,255,255,255"/>\n      </text-style>\n'
    )
    return _styled(
        f'  <renderer-v2 type="graduatedSymbol" attr="{column}" graduatedMethod="GraduatedColor">\n'
        f"    <ranges>\n{ranges}    </ranges>\n    <symbols>\n{symbols}    </symbols>\n  </renderer-v2>\n"
        f'  <labeling type="simple">\n    <settings>\n{text}    </settings>\n  </labeling>\n'
    )


def _fill(
    number: int, rgb: tuple[int, int, int], *, style: str = "solid", outline: str = "solid", alpha: float = 1
) -> str:
    """Return a numbered symbol of polygons."""
    return (
        f'      <symbol type="fill" name="{number}" alpha="{alpha:g}">\n'
        '        <layer class="SimpleFill" enabled="1">\n'
        f'          <prop k="color" v="{",".join(map(str, rgb))},255"/>\n'
        f'          <prop k="outline_color" v="64,64,64,255"/>\n          <prop k="outline_style" v="{outline}"/>\n'
        f'          <prop k="style" v="{style}"/>\n        </layer>\n      </symbol>\n'
    )


def _styled(content: str) -> str:
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        f'<qgis version="3.22" styleCategories="Symbology|Labeling" labelsEnabled="1">\n{content}</qgis>\n'
    )


def add_style(package: Path, layer: str, style: str, *, geometry: str = "geom") -> None:
    """Put a default style of a layer for QGIS into a GeoPackage (table ``layer_styles``)."""
    columns = (
        "id INTEGER PRIMARY KEY AUTOINCREMENT, f_table_catalog TEXT(256), f_table_schema TEXT(256), "
        "f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, styleSLD TEXT, "
        "useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME"
    )
    row = ("", "", layer, geometry, layer, style, "", True, layer, "", "", FIXED)
    with sqlite3.connect(package) as database:
        database.execute(f"CREATE TABLE layer_styles ({columns})")
        database.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
            "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
            (FIXED,),
        )
        database.execute(
            "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, "
            "styleQML, styleSLD, useAsDefault, description, owner, ui, update_time) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
    database.close()
