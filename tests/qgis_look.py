"""Open products in QGIS, headless, and print what it makes of them as JSON, by the Python of Debian's QGIS.

``python3 qgis_look.py FOLDER PICTURES``: every raster and vector file of the folder and those in it; a PNG of each goes to PICTURES.
"""

import json
import sys
from pathlib import Path

from qgis.core import (
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsPointXY,
    QgsRasterLayer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor


def picture(layer, path):
    """Render a layer to a PNG and return the image."""
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(512, round(512 * layer.extent().height() / layer.extent().width())))
    settings.setBackgroundColor(QColor(255, 255, 255))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    image = job.renderedImage()
    image.save(str(path))
    return image


def raster(path, pictures):
    layer = QgsRasterLayer(str(path), path.stem)
    image, extent = picture(layer, pictures / f"{path.stem}.png"), layer.extent()
    samples = []
    for k in range(1, 12):
        x = extent.xMinimum() + extent.width() * k / 12.37
        y = extent.yMaximum() - extent.height() * k / 12.37
        value, good = layer.dataProvider().sample(QgsPointXY(x, y), 1)
        pixel = image.pixelColor(int(image.width() * k / 12.37), int(image.height() * k / 12.37))
        samples.append([value if good else None, pixel.name()])
    renderer = layer.renderer()
    shown = (
        [renderer.redBand(), renderer.greenBand(), renderer.blueBand()] if renderer.type() == "multibandcolor" else []
    )
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "renderer": renderer.type(),
        "shown": shown,
        "legend": [[label, colour.name()] for label, colour in layer.legendSymbologyItems()],
        "bands": [layer.bandName(k + 1) for k in range(layer.bandCount())],
        "samples": samples,
        "corner": image.pixelColor(1, 1).name(),
    }


def vectors(path, pictures):
    """Every layer of a vector file but the table of styles."""
    found = {}
    whole = QgsVectorLayer(str(path), path.stem, "ogr")
    for name in [s.split("!!::!!")[1] for s in whole.dataProvider().subLayers()]:
        if name == "layer_styles":
            continue
        layer = QgsVectorLayer(f"{path}|layername={name}" if path.suffix == ".gpkg" else str(path), path.stem, "ogr")
        image = picture(layer, pictures / f"{path.stem}-{name}.png")
        renderer = layer.renderer()
        found[f"{path.name}|{name}" if path.suffix == ".gpkg" else path.name] = {
            "valid": layer.isValid(),
            "crs": layer.crs().authid(),
            "renderer": renderer.type(),
            "features": layer.featureCount(),
            "legend": [[i.label(), i.symbol().color().name()] for i in renderer.legendSymbolItems() if i.symbol()],
            "labels": layer.labeling().settings().fieldName if layer.labelsEnabled() else "",
            "drawn": image.pixelColor(image.width() // 2, image.height() // 2).name(),
        }
    return found


def main():
    folder, pictures = Path(sys.argv[1]), Path(sys.argv[2])
    app = QgsApplication([], False)
    app.initQgis()
    found = {p.name: raster(p, pictures) for p in sorted(folder.rglob("*.tif"))}
    for path in sorted([*folder.rglob("*.gpkg"), *folder.rglob("*.geojson")]):
        found |= vectors(path, pictures)
    sys.stdout.write("FOUND " + json.dumps(found) + "\n")
    app.exitQgis()


main()
