"""Open products in QGIS, headless, and print what it makes of them as JSON: run by the Python that Debian's QGIS uses.

``python3 qgis_look.py FOLDER PICTURES``: every raster and GeoPackage of the folder; a PNG of each goes to PICTURES.
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
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "renderer": layer.renderer().type(),
        "legend": [[label, colour.name()] for label, colour in layer.legendSymbologyItems()],
        "bands": [layer.bandName(k + 1) for k in range(layer.bandCount())],
        "samples": samples,
    }


def vector(path, pictures):
    layer = QgsVectorLayer(f"{path}|layername=classes", path.stem, "ogr")
    picture(layer, pictures / f"{path.stem}.png")
    renderer = layer.renderer()
    return {
        "valid": layer.isValid(),
        "crs": layer.crs().authid(),
        "renderer": renderer.type(),
        "features": layer.featureCount(),
        "legend": [[c.label(), c.symbol().color().name()] for c in renderer.categories()]
        if renderer.type() == "categorizedSymbol"
        else [],
    }


def main():
    folder, pictures = Path(sys.argv[1]), Path(sys.argv[2])
    app = QgsApplication([], False)
    app.initQgis()
    found = {p.name: raster(p, pictures) for p in sorted(folder.glob("*.tif"))}
    found |= {p.name: vector(p, pictures) for p in sorted(folder.glob("*.gpkg"))}
    sys.stdout.write("FOUND " + json.dumps(found) + "\n")
    app.exitQgis()


main()
