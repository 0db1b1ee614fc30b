"""What torchgeo's weights want to see, in geomm's bands and units; what is not known is refused, with the reason.

The numbers are torchgeo's own transforms where it has them, brought into physical units, and the authors' code or
documentation where it has not; every row says which. A name of weights means the same for every model of torchgeo.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from geomm.errors import ContractError, UnknownNameError
from geomm.models.encoders.contract import Wants
from geomm.sensors import BandSpec, get_sensor
from geomm.types import Modality, Unit

_MSI = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_LAND = tuple(b for b in _MSI if b != "B10")
_SATLAS = ("B04", "B03", "B02", "B05", "B06", "B07", "B08", "B11", "B12")

_TCI = 0.3558
"""Reflectance at which the bytes of a Level-1C true colour image saturate (ESA, user guide of MSI, definitions)."""
_BYTES = 32 * 255 * 1e-4
"""Reflectance at which Satlas' bytes of the other bands saturate: 32 digital numbers each (its Normalization.md)."""
_SATLAS_CEILING = (_TCI,) * 3 + (_BYTES,) * 6

# Digital numbers of 1/10,000 without offset, and dB (zhu-xlab/SSL4EO-S12: src/download_data/convert_rgb.py).
_MSI_MEAN = (1612.9, 1397.6, 1322.3, 1373.1, 1561.0, 2108.4, 2390.7, 2318.7, 2581.0, 837.7, 22.0, 2195.2, 1537.4)
_MSI_STD = (791.0, 854.3, 878.7, 1144.9, 1127.5, 1164.2, 1276.0, 1249.5, 1345.9, 577.5, 47.5, 1340.0, 1142.9)
_SAR_MEAN, _SAR_STD = (-12.59, -20.26), (5.26, 5.91)

# Bytes of Satlas, in its order of bands (zhu-xlab/DOFA: README.md).
_DOFA_MEAN = (114.1099739, 114.81779093, 126.63977424, 84.33539309, 97.84789168, 103.94461911, 101.435633, 72.32804172)
_DOFA_STD = (77.84352553, 69.96844919, 67.42465279, 64.57022983, 61.72545487, 61.34187099, 60.29744676, 47.88519516)
_DOFA = {b: (m, s) for b, m, s in zip(_SATLAS, (*_DOFA_MEAN, 56.66528851), (*_DOFA_STD, 42.55886798), strict=True)}


def _scaled(
    sensor: str, bands: tuple[str, ...], top: Sequence[float], *, source: str, size: int = 224, clip: bool = True
) -> Wants:
    """Values from 0 to ``top`` brought to 0 to 1."""
    unit = get_sensor(sensor).band(bands[0]).unit
    ceiling = tuple(top) if clip else ()
    return Wants((sensor,), bands, unit, (0.0,) * len(bands), tuple(top), ceiling=ceiling, size=size, source=source)


def _tenth(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(v * 1e-4 for v in values)


_S12_OTHER = "torchgeo 0.10.1: models/resnet.py, _ssl4eo_s12_transforms_s2_10k"
_S12 = f"{_S12_OTHER}; bytes: zhu-xlab/SSL4EO-S12, issues 17 and 28"
_ECO = "torchgeo 0.10.1: models/resnet.py, _seco_eco_transforms; level: PlekhanovaElena/ssl4eco, data_download"
_L = "torchgeo: models/resnet.py, _ssl4eo_l_transforms; experiments/ssl4eo/landsat/compress_{oli,etm}_sr.sh"
_ALLEN = "torchgeo 0.10.1: models/swin.py; allenai/satlas: Normalization.md; ESA, user guide of MSI, definitions"

_BY_SCALE = _scaled("sentinel2-l1c", _MSI, (1.0,) * 13, source=_S12)
_BY_SCALE_OTHER = _scaled("sentinel2-l1c", _MSI, (1.0,) * 13, source=_S12_OTHER, clip=False)
_RGB = _scaled("sentinel2-l1c", _SATLAS[:3], (1.0,) * 3, source=_S12)
_BY_STATISTICS = Wants(
    ("sentinel2-l1c",),
    _MSI,
    "reflectance",
    _tenth(_MSI_MEAN),
    _tenth(_MSI_STD),
    source="torchgeo 0.10.1: models/resnet.py, _ssl4eo_s12_transforms_s2_stats",
)
# torchgeo's is that of the transfer to other tasks; pretraining saw (z + 2) / 4 within 0 and 1 (SSL4EO-S12, issue 17).
_SAR = Wants(
    ("sentinel1-grd-db",),
    ("VV", "VH"),
    "sigma0_db",
    _SAR_MEAN,
    _SAR_STD,
    source="torchgeo 0.10.1: models/resnet.py, _ssl4eo_s12_transforms_s1",
)
_SATLAS_MS = _scaled("sentinel2-l1c", _SATLAS, _SATLAS_CEILING, source=_ALLEN, size=256)
_SATLAS_RGB = _scaled("sentinel2-l1c", _SATLAS[:3], _SATLAS_CEILING[:3], source=_ALLEN, size=256)
_SATLAS_SAR = _scaled("sentinel1-grd", ("VH", "VV"), (255.0,) * 2, source=_ALLEN, size=256)
_OLI = _scaled("landsat-oli-l2", ("B1", "B2", "B3", "B4", "B5", "B6", "B7"), (0.3,) * 7, source=_L)
_ETM = _scaled("landsat-etm-l2", ("B1", "B2", "B3", "B4", "B5", "B7"), (0.3,) * 6, source=_L)

FIXED: Mapping[str, Wants] = MappingProxyType(
    {
        **{f"SENTINEL2_ALL_{m}": _BY_SCALE for m in ("MOCO", "DINO", "MAE")},
        **{f"SENTINEL2_ALL_{m}": _BY_SCALE_OTHER for m in ("FGMAE", "DECUR")},
        "SENTINEL2_RGB_MOCO": _RGB,
        "SENTINEL2_ALL_SOFTCON": _BY_STATISTICS,
        "SENTINEL2_ALL_SECO_ECO": _scaled("sentinel2-l2a", _LAND, (1.0,) * 12, source=_ECO, clip=False),
        **{f"SENTINEL1_{m}": _SAR for m in ("ALL_DECUR", "ALL_MOCO", "GRD_SOFTCON", "GRD_MAE", "GRD_FGMAE")},
        **{f"SENTINEL2_{m}_MS_SATLAS": _SATLAS_MS for m in ("SI", "MI")},
        **{f"SENTINEL2_{m}_RGB_SATLAS": _SATLAS_RGB for m in ("SI", "MI")},
        **{f"SENTINEL1_{m}_SATLAS": _SATLAS_SAR for m in ("SI", "MI")},
        **{f"LANDSAT_OLI_SR_{m}": _OLI for m in ("MOCO", "SIMCLR")},
        **{f"LANDSAT_ETM_SR_{m}": _ETM for m in ("MOCO", "SIMCLR")},
    }
)
"""Weights that want the same of everybody."""

_TWO_SENSORS = (
    "one image of reflectance and brightness temperature in one order of bands; geomm has them as two sensors, and {}"
)
_AERIAL = "bytes of aerial or street imagery, which no sensor of geomm's table is"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **{f"LANDSAT_TM_TOA_{m}": _TWO_SENSORS.format("B6 is between B5 and B7") for m in ("MOCO", "SIMCLR")},
        **{
            f"LANDSAT_{s}_TOA_{m}": _TWO_SENSORS.format("no panchromatic band")
            for s in ("ETM", "OLI_TIRS")
            for m in ("MOCO", "SIMCLR")
        },
        **{
            f"LANDSAT_{m}_SATLAS": "digital numbers of Level-1 bands B1 to B11; geomm has them calibrated, in two "
            "sensors, and no panchromatic band"
            for m in ("SI", "MI")
        },
        **{f"NAIP_RGB_{m}_SATLAS": _AERIAL for m in ("SI", "MI")},
        "FMOW_RGB_GASSL": _AERIAL,
        "CITYSCAPES_SEMSEG": _AERIAL,
        "SENTINEL2_RGB_SECO": "bytes made from Sentinel-2 in a way that is not written down; and torchgeo stretches "
        "B4, B3, B2 by limits that ServiceNow/seasonal-contrast (datasets/seco_dataset.py) has for B2, B3, B4",
        "SENTINEL2_ALL_NDVI_SECO_ECO": "an index, NDVI, as its ninth band",
        **{
            f"SENTINEL2_ALL_{m}": "Level-2A with a B10 of zeros (DarthReca/closp: dataset/crisis_land_mark.py)"
            for m in ("CLOSP", "GEOCLOSP")
        },
        **{
            f"SENTINEL1_GRD_{m}": "backscatter of four datasets in units of their own (DarthReca/closp: "
            "dataset/crisis_land_mark.py); torchgeo names none"
            for m in ("CLOSP", "GEOCLOSP")
        },
    }
)
"""Weights that geomm cannot serve, and why."""


def wants(name: str, modality: Modality | None = None) -> Wants | None:
    """Return what the weights of an encoder want to see; None where its name asks for none.

    Args:
        name: of an encoder, such as ``torchgeo:resnet18:SENTINEL2_ALL_MOCO``.
        modality: sensor and bands, for weights that take those of several sensors.

    Raises:
        ContractError: what they want is not known, or geomm cannot give it; or it depends on the modality, which is not
            given or not one of theirs.
        UnknownNameError: weights that geomm does not know.
    """
    family, _, rest = name.partition(":")
    weights = rest.partition(":")[2]
    if family != "torchgeo" or not weights:
        return None
    if weights in REFUSED:
        raise ContractError(
            "the weights want what geomm cannot give",
            where=name,
            why=REFUSED[weights],
            fix="take other weights of this model, or the model without weights",
        )
    if weights in FIXED:
        return FIXED[weights]
    if weights not in BY_MODALITY:
        raise UnknownNameError.of("weights", weights, (*FIXED, *BY_MODALITY))
    if modality is None or not modality.bands:
        raise ContractError(
            "what the weights want depends on the modality",
            where=name,
            why=f"got {modality or 'none'}",
            fix="say sensor and bands",
        )
    return BY_MODALITY[weights](name, modality)


def _croma(_name: str, modality: Modality) -> Wants:
    readme = "antofuller/CROMA: README.md"
    if get_sensor(modality.sensor).band(modality.bands[0]).polarisation:
        return Wants(("sentinel1-grd-db",), ("VV", "VH"), "sigma0_db", scaling="image", size=120, source=readme)
    return Wants(("sentinel2-l2a", "sentinel2-l1c"), _LAND, "reflectance", scaling="image", size=120, source=readme)


def _dofa(name: str, modality: Modality) -> Wants:
    """Return Satlas' bytes of Sentinel-2 with DOFA's statistics; of other sensors with the data's own."""
    readme = "zhu-xlab/DOFA: README.md"
    bands = _read(name, modality)
    names = tuple(b.name for b in bands)
    if bands[0].polarisation:  # its statistics name VH before VV, and are those of VV before VH
        ceiling = (255.0,) * len(bands)
        return Wants(("sentinel1-grd",), modality.bands, "amplitude", ceiling=ceiling, source=f"{readme}; {_ALLEN}")
    if modality.sensor != "sentinel2-l1c" or not _DOFA.keys() >= set(names):
        return Wants((modality.sensor,), modality.bands, _unit(name, bands), source=readme)
    ceiling = tuple(_SATLAS_CEILING[_SATLAS.index(b)] for b in names)
    mean, std = (tuple(_DOFA[b][k] / 255 * c for b, c in zip(names, ceiling, strict=True)) for k in (0, 1))
    return Wants((modality.sensor,), modality.bands, "reflectance", mean, std, ceiling=ceiling, source=readme)


def _panopticon(name: str, modality: Modality) -> Wants:
    source = "Panopticon-FM/panopticon: README.md, standard normal normalisation"
    return Wants((modality.sensor,), modality.bands, _unit(name, _read(name, modality)), source=source)


def _copernicus(name: str, modality: Modality) -> Wants:
    """Return the statistics of its training data where it has them, else the data's own."""
    bands = _read(name, modality)
    known = {b: (m * 1e-4, s * 1e-4) for b, m, s in zip(_MSI, _MSI_MEAN, _MSI_STD, strict=True)}
    if modality.sensor == "sentinel1-grd-db":
        known = dict(zip(("VV", "VH"), zip(_SAR_MEAN, _SAR_STD, strict=True), strict=True))
    elif modality.sensor != "sentinel2-l1c":
        known = {}
    rows = [known[b.name] for b in bands if b.name in known]
    mean, std = ([r[k] for r in rows] if len(rows) == len(bands) else () for k in (0, 1))
    source = "zhu-xlab/Copernicus-FM: Copernicus-FM/src/main_pretrain.py; demo.ipynb, z-score"
    return Wants((modality.sensor,), modality.bands, _unit(name, bands), tuple(mean), tuple(std), source=source)


BY_MODALITY: Mapping[str, Callable[[str, Modality], Wants]] = MappingProxyType(
    {"CROMA_VIT": _croma, "DOFA_MAE": _dofa, "VIT_BASE14": _panopticon, "CopernicusFM_ViT": _copernicus}
)
"""Weights that take the bands of several sensors."""


def _read(name: str, modality: Modality) -> list[BandSpec]:
    """Return the bands, all of which have a wavelength or all a polarisation."""
    sensor = get_sensor(modality.sensor)
    bands = [sensor.band(b) for b in modality.bands]
    optical = [b.wavelength is not None for b in bands]
    if not (all(optical) or all(b.polarisation for b in bands)):
        raise ContractError(
            "the weights want bands with a wavelength, or with a polarisation",
            where=name,
            why=f"{modality.sensor} {', '.join(modality.bands)}",
            fix="use a sensor whose bands state them, such as sentinel2-l2a, or add them to its record",
        )
    return bands


def _unit(name: str, bands: Sequence[BandSpec]) -> Unit:
    """Return the unit of all bands; that of backscatter is dB, as in all training data but that of Satlas."""
    units = {b.unit for b in bands}
    unit = bands[0].unit
    if len(units) > 1 or (bands[0].polarisation and not unit.endswith("_db")):
        raise ContractError(
            "the weights want bands of one unit, backscatter in dB",
            where=name,
            why=f"got {', '.join(sorted(units))}",
            fix="put bands of other units into a modality of their own",
        )
    return unit
