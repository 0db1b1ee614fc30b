"""Sidecars of rasters: category names for GDAL, styles for QGIS."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from xml.sax.saxutils import escape, quoteattr

from geomm.types import LayerSpec

NONE = -1
"""Number of no band."""
VIRIDIS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")
SYMBOLS: Mapping[str, str] = MappingProxyType(
    {
        "kelvin_brightness_temperature": "K",
        "kelvin_surface_temperature": "K",
        "sigma0_db": "dB",
        "gamma0_db": "dB",
        "degree": "°",
        "metre": "m",
    }
)
"""What stands behind a number in a legend, by unit."""


def distinct(number: int) -> list[str]:
    """Return colours that can be told apart, for what has none of its own."""
    hues = [colorsys.hsv_to_rgb(k / max(number, 1), 0.55, 0.85) for k in range(number)]
    return ["#" + "".join(f"{round(255 * v):02x}" for v in rgb) for rgb in hues]


def aux_xml(layer: LayerSpec) -> str:
    """Return the ``.aux.xml`` of a class map: GDAL's category names, one line per code from 0."""
    names = {c.value: c.name for c in layer.classes}
    rows = "".join(f"      <Category>{escape(names.get(v, ''))}</Category>\n" for v in range(max(names) + 1))
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n'
        f"    <CategoryNames>\n{rows}    </CategoryNames>\n"
        "  </PAMRasterBand>\n</PAMDataset>\n"
    )


def qml(layer: LayerSpec, limits: tuple[float, float] = (0.0, 1.0), *, alpha: int = NONE) -> str:
    """Return the QGIS style of a layer; QGIS loads it by itself when it lies beside the GeoTIFF.

    Args:
        layer: what is styled.
        limits: values of the first and the last colour, where it has no classes.
        alpha: number of the band that says what is shown: QGIS counts the mask of a file behind its bands.
    """
    body = _paletted(layer) if layer.kind == "class" else _ramp(*limits, SYMBOLS.get(layer.unit, ""))
    return _whole(body, alpha)


def colours_qml(bands: Sequence[int], limits: Sequence[tuple[float, float]], *, alpha: int = NONE) -> str:
    """Return the QGIS style of imagery in colours.

    Args:
        bands: numbers of the bands that are shown as red, green and blue, from 1.
        limits: stored values of each that are dark and light.
        alpha: as for :func:`qml`.
    """
    names = ("red", "green", "blue")
    chosen = " ".join(f'{name}Band="{band}"' for name, band in zip(names, bands, strict=True))
    contrast = "".join(
        f"      <{name}ContrastEnhancement>\n        <minValue>{low:.8g}</minValue>\n"
        f"        <maxValue>{high:.8g}</maxValue>\n        <algorithm>StretchToMinimumMaximum</algorithm>\n"
        f"      </{name}ContrastEnhancement>\n"
        for name, (low, high) in zip(names, limits, strict=True)
    )
    return _whole(
        f'    <rasterrenderer type="multibandcolor" opacity="1" {chosen}>\n{contrast}    </rasterrenderer>\n',
        alpha,
    )


def _whole(renderer: str, alpha: int) -> str:
    renderer = renderer.replace('opacity="1"', f'opacity="1" alphaBand="{alpha}"', 1)
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22" styleCategories="Symbology">\n  <pipe>\n'
        f'{renderer}    <brightnesscontrast brightness="0" contrast="0"/>\n  </pipe>\n</qgis>\n'
    )


def _paletted(layer: LayerSpec) -> str:
    rows = "".join(
        f'        <paletteEntry value="{c.value}" color="{c.color}" alpha="255" label={quoteattr(c.name)}/>\n'
        for c in layer.classes
    )
    return (
        '    <rasterrenderer type="paletted" band="1" opacity="1" nodataColor="">\n'
        f"      <colorPalette>\n{rows}      </colorPalette>\n    </rasterrenderer>\n"
    )


def _ramp(low: float, high: float, symbol: str) -> str:
    steps = [low + (high - low) * k / (len(VIRIDIS) - 1) for k in range(len(VIRIDIS))]
    behind = f" {symbol}" if symbol else ""
    rows = "".join(
        f'          <item value="{value:.8g}" color="{color}" alpha="255" label="{value:.4g}{behind}"/>\n'
        for value, color in zip(steps, VIRIDIS, strict=True)
    )
    return (
        '    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1"'
        f' classificationMin="{low:.8g}" classificationMax="{high:.8g}">\n      <rastershader>\n'
        '        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0"'
        f' minimumValue="{low:.8g}" maximumValue="{high:.8g}">\n{rows}'
        f'          <rampLegendSettings suffix="{behind}" prefix="" useContinuousLegend="1"/>\n'
        "        </colorrampshader>\n"
        "      </rastershader>\n    </rasterrenderer>\n"
    )
