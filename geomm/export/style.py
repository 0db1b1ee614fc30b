"""Sidecars: category names for GDAL, styles for QGIS."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from geomm.types import LayerSpec

VIRIDIS = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")


def aux_xml(layer: LayerSpec) -> str:
    """Return the ``.aux.xml`` of a class map: GDAL's category names, one line per code from 0."""
    names = {c.value: c.name for c in layer.classes}
    rows = "".join(f"      <Category>{escape(names.get(v, ''))}</Category>\n" for v in range(max(names) + 1))
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n'
        f"    <CategoryNames>\n{rows}    </CategoryNames>\n"
        "  </PAMRasterBand>\n</PAMDataset>\n"
    )


def qml(layer: LayerSpec, limits: tuple[float, float] = (0.0, 1.0)) -> str:
    """Return the QGIS style of a layer; QGIS loads it by itself when it lies beside the GeoTIFF.

    Args:
        layer: what is styled.
        limits: values of the first and the last colour, where it has no classes.
    """
    body = _paletted(layer) if layer.kind == "class" else _ramp(*limits)
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22" styleCategories="Symbology">\n  <pipe>\n'
        f'{body}    <brightnesscontrast brightness="0" contrast="0"/>\n  </pipe>\n</qgis>\n'
    )


def categories_qml(layer: LayerSpec, column: str) -> str:
    """Return the QGIS style of polygons that are coloured by the names of their classes in a column."""
    categories = "".join(
        f'      <category value={quoteattr(c.name)} symbol="{k}" label={quoteattr(c.name)} render="true"/>\n'
        for k, c in enumerate(layer.classes)
    )
    symbols = "".join(
        f'      <symbol type="fill" name="{k}" alpha="1">\n        <layer class="SimpleFill" enabled="1">\n'
        f'          <prop k="color" v="{",".join(map(str, c.rgb))},255"/>\n'
        '          <prop k="outline_style" v="no"/>\n          <prop k="style" v="solid"/>\n'
        "        </layer>\n      </symbol>\n"
        for k, c in enumerate(layer.classes)
    )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22" styleCategories="Symbology">\n'
        f'  <renderer-v2 type="categorizedSymbol" attr="{column}">\n'
        f"    <categories>\n{categories}    </categories>\n    <symbols>\n{symbols}    </symbols>\n"
        "  </renderer-v2>\n</qgis>\n"
    )


def _paletted(layer: LayerSpec) -> str:
    rows = "".join(
        f'        <paletteEntry value="{c.value}" color="{c.color}" alpha="255" label={quoteattr(c.name)}/>\n'
        for c in layer.classes
    )
    return (
        '    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        f"      <colorPalette>\n{rows}      </colorPalette>\n    </rasterrenderer>\n"
    )


def _ramp(low: float, high: float) -> str:
    steps = [low + (high - low) * k / (len(VIRIDIS) - 1) for k in range(len(VIRIDIS))]
    rows = "".join(
        f'          <item value="{value:g}" color="{color}" alpha="255" label="{value:g}"/>\n'
        for value, color in zip(steps, VIRIDIS, strict=True)
    )
    return (
        '    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1"'
        f' classificationMin="{low:g}" classificationMax="{high:g}">\n      <rastershader>\n'
        '        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0"'
        f' minimumValue="{low:g}" maximumValue="{high:g}">\n{rows}        </colorrampshader>\n'
        "      </rastershader>\n    </rasterrenderer>\n"
    )
