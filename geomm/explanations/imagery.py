"""Codes about names, catalogs, files, grids, units and splits."""

from __future__ import annotations

from geomm.explanations.record import Explanation

IMAGERY = (
    Explanation(
        "E000",
        "GeommError",
        "Something happened that no code of its own stands for. As an error by itself it is a fault of geomm.",
        ("A state that the program should never be in.",),
        (
            "Report it with the command, the message, and run.json if there is one.",
            "Check the installation: `geomm doctor`",
        ),
        "This is a fault of geomm: report it with run.json and the log.",
    ),
    Explanation(
        "E101",
        "UnknownNameError",
        "A name that geomm looks up in a table is not there: a sensor, band, encoder, fusion, loss, task or layer.",
        (
            "A spelling mistake; the message suggests the nearest names.",
            "A band under the name of another provider (B04 for B4, red for B4).",
            "A name of a newer or older version of geomm.",
        ),
        (
            "Take one of the names that the message lists.",
            "List sensors and their bands: `geomm sensors`",
            "Check the recipe of a batch without doing anything: `geomm run RECIPE --dry-run`",
        ),
        "Correct the name in the recipe; the message lists those that there are.",
        ("LookupError",),
    ),
    Explanation(
        "E102",
        "DuplicateNameError",
        "A sensor, fusion or task is registered under a name that is taken.",
        (
            "The cell or module that registers it was run twice.",
            "Another package registered something of that name.",
            "The name is one of geomm's own.",
        ),
        (
            "Register it once, where the process begins.",
            "Choose another name; those that are taken: `geomm sensors`",
        ),
        "Register the sensor, fusion or task once, or under another name.",
        ("ValueError",),
    ),
    Explanation(
        "E201",
        "CatalogError",
        "A catalog, one of its items, or a search in it cannot be used.",
        (
            "Nothing was found: the area or the time holds no imagery of these sensors.",
            "Longitude and latitude were exchanged: an area is west, south, east, north.",
            "The path or address leads to something that is no STAC catalog, collection, item or table.",
            "An item breaks the STAC standard: no time, no footprint, a file type that it is not.",
        ),
        (
            "See what a catalog holds: `geomm catalog search CATALOG`",
            "Search wider first: `geomm catalog search CATALOG --aoi=9,46,9.2,46.2 --datetime 2024-06-01/..`",
            "Of a plain folder of GeoTIFFs make a catalog: `geomm catalog build FOLDER --sensor SENSOR`",
        ),
        "Correct the item in its catalog, or leave it out of the search; then try again.",
        ("ValueError",),
    ),
    Explanation(
        "E202",
        "MissingBandError",
        "An item lacks a band that a sensor's modality or a model needs.",
        (
            "The item is of a product without that band, such as Landsat with the thermal instrument off.",
            "The asset has another name than the sensor's table or the catalog definition says.",
        ),
        (
            "See the bands of every scene: `geomm catalog search CATALOG --sensor SENSOR`",
            "Name fewer bands: Modality(SENSOR, (BAND, ...)), or leave the scene out.",
        ),
        "Find items that have the band, or take a model that does not need it.",
        ("LookupError",),
    ),
    Explanation(
        "E203",
        "CatalogUnavailableError",
        "The catalog did not answer, or answered that it is overloaded.",
        (
            "The server or the way to it is down, or limits how often it is asked.",
            "A proxy or firewall stands between.",
        ),
        ("Try again later; a batch does so by itself.", "See whether its address answers in a browser."),
        "The catalog did not answer: try again later.",
        ("ValueError",),
        retry=True,
    ),
    Explanation(
        "E301",
        "GridError",
        "Imagery, areas and grids do not come together: no CRS, no overlap, or pixels that do not fit.",
        (
            "The area of interest lies elsewhere than the imagery, often as longitude and latitude were exchanged.",
            "A CRS that does not exist, or a resolution in metres for a CRS in degrees (or the other way round).",
            "A raster or a vector file without a CRS, or with the wrong one.",
            "A grid across longitude 180 in degrees, or UTM near a pole.",
        ),
        (
            "See where the scenes lie: `geomm catalog search CATALOG`, and `gdalinfo FILE` of one file.",
            "Let geomm choose the grid: geomm.common_geobox(scenes), or crs='utm' with a resolution in metres.",
            "On the command line give both: `geomm predict MODEL CATALOG -o maps --crs EPSG:32632 --resolution 10`",
        ),
        "Look at CRS and extent of the item with gdalinfo; name crs and resolution in the recipe.",
        ("ValueError",),
    ),
    Explanation(
        "E302",
        "ReadError",
        "A file cannot be opened or decoded.",
        (
            "The path is wrong, or the file may not be read by you.",
            "The file broke off while it was copied, or is of a format that geomm does not read.",
        ),
        (
            "`gdalinfo -checksum FILE` shows whether it is whole; fetch it again if not.",
            "Convert other formats: `gdal_translate -of COG SOURCE TARGET.tif`",
        ),
        "Look at the file with gdalinfo; have it delivered again if it is damaged, then try again.",
        ("OSError",),
    ),
    Explanation(
        "E303",
        "UnitError",
        "Numbers are of a physical unit that cannot become the wanted one.",
        (
            "Brightness temperature where surface temperature is wanted: Level 1 instead of Level 2 of Landsat.",
            "Uncalibrated radar amplitude where sigma0 or gamma0 is wanted.",
            "Reflectance of a scene without the height of the sun.",
        ),
        (
            "Search for the product that has the unit: `geomm sensors` lists them.",
            "If the numbers are of the right unit, state it in the catalog definition or the record of the sensor.",
        ),
        "State the unit of the band in the catalog, or take a model for the unit that it has.",
        ("ValueError",),
    ),
    Explanation(
        "E304",
        "UnavailableError",
        "A file's server did not answer, or broke off in the middle.",
        ("The server or the way to it is down, or limits how often it is asked.", "A signed address ran out."),
        (
            "Try again later; a batch does so by itself.",
            "Copy the files first and make a catalog of the copies: `geomm catalog build FOLDER`",
        ),
        "The source did not answer, or not in full: try again later; if it stays, ask its operator.",
        ("OSError",),
        retry=True,
    ),
    Explanation(
        "E305",
        "UnsafeSourceError",
        "geomm refuses an address, a format or a name on purpose: catalogs are written by others.",
        (
            "A remote catalog names a local file, a private host, or one of GDAL's own prefixes (/vsi...).",
            "A catalog of your own network, which is private to geomm until you say that you trust it.",
        ),
        (
            "If you know who wrote it: open_catalog(..., policy=geomm.catalog.ReadPolicy(hosts=[...], private=True))",
            "In the recipe of a batch: trust: {hosts: [...], roots: [...]}",
        ),
        "Refused on purpose. Trust the address only if you know who wrote it.",
        ("OSError",),
    ),
    Explanation(
        "E306",
        "ChecksumError",
        "A file is not the one that its catalog describes: file:checksum or file:size differ.",
        ("It broke off or was damaged on its way.", "It was made again after the catalog was written."),
        ("Fetch the file again.", "If the new file is right, write the catalog again: `geomm catalog build FOLDER`"),
        "The file is not what its catalog says: have it delivered again, or correct the checksum, then try again.",
        ("OSError",),
    ),
    Explanation(
        "E307",
        "LimitError",
        "A file claims more pixels, bands or bytes than geomm reads, as a damaged or a malicious one does.",
        ("A damaged header.", "A raster whose single block is huge, for example compressed in one piece."),
        (
            "Look at it: `gdalinfo FILE`",
            "Write it in tiles: `gdal_translate -of COG SOURCE TARGET.tif`",
            "Raise the limits of the policy if it really is that large: geomm.catalog.ReadPolicy",
        ),
        "Refused for its size. If it really is that large, raise the limit and try again.",
        ("OSError",),
    ),
    Explanation(
        "E401",
        "SplitError",
        "A split into training, validation and test has no pixels, or would leak.",
        (
            "Blocks are so large that a split gets none, or the buffer leaves nothing of a block.",
            "Shares that do not add up to one.",
            "No labelled pixel lies in a split: wrong class values, or labels of another place.",
        ),
        (
            "Choose smaller blocks or a smaller buffer: `geomm train RECIPE --set split.block=64`",
            "Check the values of the classes against the labels: `gdalinfo -stats FILE`",
            "Of a chip store ask how far the splits lie apart: `geomm chips leaks STORE`",
        ),
        "Choose smaller blocks or another buffer for the split.",
        ("ValueError",),
    ),
)
"""Explanations of E000 to E401."""
