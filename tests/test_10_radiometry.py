"""Calibration and quality bits against values worked out by hand from the product handbooks."""

from __future__ import annotations

import datetime as dt
import inspect
import sys

import numpy as np
import pytest

from geomm import radiometry
from geomm.catalog.mtl import parse_mtl
from geomm.errors import CatalogError, UnitError
from geomm.sensors import RESAMPLING, SENSORS, get_sensor


@pytest.mark.parametrize(
    ("sensor", "band", "dn", "expected", "tolerance"),
    [
        ("landsat-oli-l2", "B4", 18639, 0.313, 5e-4),
        ("landsat-tirs-l2", "ST_B10", 44947, 302.6, 0.05),
        ("landsat-oli-l1", "B4", 10000, 0.1, 1e-9),
        ("landsat-oli-l2", "B4", 7273, 0.0, 1e-4),
        ("landsat-oli-l2", "B4", 43636, 1.0, 1e-4),
        ("landsat-tirs-l2", "ST_B10", 293, 150.0, 2e-3),
        ("landsat-tirs-l2", "ST_B10", 65535, 373.0, 1e-2),
        ("landsat-tm-l2", "B3", 18639, 0.313, 5e-4),
        ("landsat-etm-thermal-l2", "ST_B6", 44947, 302.6, 0.05),
        ("sentinel2-l2a", "B04", 2500, 0.25, 1e-9),
        ("sentinel2-l2a", "B04", 12000, 1.2, 1e-9),  # snow and cloud: more than 1 is legal
        ("sentinel1-incidence", "incidence", 3812, 38.12, 1e-9),
    ],
)
def test_golden_values(sensor, band, dn, expected, tolerance):
    c = get_sensor(sensor).band(band).calibration
    assert radiometry.to_physical(float(dn), c.scale, c.offset, c.k1, c.k2) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("sensor", "band", "k1", "k2"),
    [
        ("landsat-tirs-l1", "B10", 774.8853, 1321.0789),
        ("landsat-tirs-l1", "B11", 480.8883, 1201.1442),
        ("landsat-etm-thermal-l1", "B6_VCID_1", 666.09, 1282.71),
        ("landsat-tm-thermal-l1", "B6", 607.76, 1260.56),
    ],
)
def test_thermal_constants(sensor, band, k1, k2):
    c = get_sensor(sensor).band(band).calibration
    assert (c.k1, c.k2) == (k1, k2)


def test_landsat9_constants_come_from_its_mtl():
    text = """GROUP = LANDSAT_METADATA_FILE
      SPACECRAFT_ID = "LANDSAT_9"
      DATE_ACQUIRED = 2022-06-01
      SCENE_CENTER_TIME = "10:00:00.1234567Z"
      SUN_ELEVATION = 30.0
      REFLECTANCE_MULT_BAND_4 = 2.0000E-05
      REFLECTANCE_ADD_BAND_4 = -0.100000
      RADIANCE_MULT_BAND_10 = 3.8000E-04
      RADIANCE_ADD_BAND_10 = 0.10000
      K1_CONSTANT_BAND_10 = 799.0284
      K2_CONSTANT_BAND_10 = 1329.2405
    END_GROUP = LANDSAT_METADATA_FILE"""
    found = parse_mtl(text)
    assert found.platform == "landsat-9"
    assert found.time == dt.datetime(2022, 6, 1, 10, tzinfo=dt.UTC)
    assert found.calibration("B10") == radiometry.Calibration(3.8e-4, 0.1, 799.0284, 1329.2405)
    red = found.calibration("B4")
    assert red.scale * 15000 + red.offset == pytest.approx(0.2 / 0.5)  # the sun at 30 degrees
    assert found.calibration("B1") is None
    with pytest.raises(CatalogError, match="does not name the satellite"):
        parse_mtl("END")
    with pytest.raises(CatalogError, match="cannot be read"):
        parse_mtl("{")


def test_radiance_becomes_reflectance_as_in_chander_2009():
    """Landsat 5 TM band 3, 14 August 1988, sun at 49.76 degrees: pi L d^2 / (ESUN sin e)."""
    c = radiometry.solar_corrected(
        radiometry.reflectance_from_radiance(radiometry.Calibration(1.044, -2.21398), 1536.0, 1.0128), 49.75588889
    )
    radiance = 1.044 * 20 - 2.21398
    expected = np.pi * radiance * 1.0128**2 / (1536.0 * np.sin(np.radians(49.75588889)))
    assert c.scale * 20 + c.offset == pytest.approx(expected)
    for elevation in (-3.0, 0.0, 91.0):
        with pytest.raises(UnitError, match="without sun"):
            radiometry.solar_corrected(c, elevation)


def test_negative_reflectance_is_kept_and_nodata_goes_before_the_offset():
    c = radiometry.Calibration(1e-4, -0.1)
    assert radiometry.to_physical(900.0, c.scale, c.offset) == pytest.approx(-0.01)


def test_speckle_in_db_and_what_averaging_it_costs():
    """Spread of dB is 10 / ln 10 sqrt(psi1(L)): 5.57, 2.19 and 1.41 for 1, 4.4 and 10 looks; its mean is biased low."""
    generator = np.random.default_rng(0)
    for looks, spread in ((1.0, 5.57), (4.4, 2.19), (10.0, 1.41)):
        power = generator.gamma(looks, 0.05 / looks, 400_000)
        assert radiometry.to_db(power).std() == pytest.approx(spread, abs=0.03)
        assert radiometry.to_db(power.mean()) == pytest.approx(10 * np.log10(0.05), abs=0.02)
    assert radiometry.to_db(generator.gamma(1.0, 0.05, 400_000)).mean() < 10 * np.log10(0.05) - 2.4


def test_brightness_temperature_inverts_planck():
    c = get_sensor("landsat-tirs-l1").band("B10").calibration
    kelvin = np.linspace(220, 330, 50)
    radiance = c.k1 / (np.exp(c.k2 / kelvin) - 1)
    dn = (radiance - c.offset) / c.scale
    assert radiometry.to_physical(dn, c.scale, c.offset, c.k1, c.k2) == pytest.approx(kelvin, rel=1e-12)


def test_mixed_bands_calibrate_each_by_its_own_rule():
    value = radiometry.to_physical(
        np.full((2, 3), 20000.0),
        np.array([[2e-5], [3.342e-4]]),
        np.array([[-0.1], [0.1]]),
        np.array([[np.nan], [774.8853]]),
        np.array([[np.nan], [1321.0789]]),
    )
    assert value[0] == pytest.approx(0.3)
    assert value[1] == pytest.approx(1321.0789 / np.log(774.8853 / (20000 * 3.342e-4 + 0.1) + 1))


def test_decibel_round_trip_and_floor():
    power = np.array([1e-3, 0.1, 1.0, 12.0])
    assert radiometry.from_db(radiometry.to_db(power)) == pytest.approx(power)
    assert radiometry.to_db(np.array([0.0, -1.0])) == pytest.approx(radiometry.DB_FLOOR)


def test_conversion_is_explicit_or_refused():
    assert radiometry.convert(0.1, "sigma0_power", "sigma0_db") == pytest.approx(-10.0)
    assert radiometry.convert(-10.0, "gamma0_db", "gamma0_power") == pytest.approx(0.1)
    for source, target in [
        ("kelvin_brightness_temperature", "kelvin_surface_temperature"),
        ("sigma0_db", "gamma0_db"),
        ("dn", "reflectance"),
    ]:
        with pytest.raises(UnitError, match=source):
            radiometry.convert(1.0, source, target)


OFFSETS = [
    ({"baseline": "05.09", "override": 0}, 0.0),
    ({"baseline": "05.09", "override": -1000}, -1000.0),
    ({"baseline": "05.09", "source": "gee_harmonized"}, 0.0),
    ({"baseline": "05.09", "boa_offset_applied": True, "metadata_offset_dn": -1000}, 0.0),
    ({"baseline": "05.09", "boa_offset_applied": False, "metadata_offset_dn": -1000}, -1000.0),
    ({"baseline": "04.00"}, -1000.0),
    ({"baseline": "03.01"}, 0.0),
    ({"baseline": "02.14", "metadata_offset_dn": -1000}, 0.0),
    ({"baseline": None, "metadata_offset_dn": -1000}, -1000.0),
    ({"baseline": None}, None),
    ({"baseline": 4.0}, -1000.0),
    ({"baseline": 5.1, "metadata_offset_dn": 0}, 0.0),
]


@pytest.mark.parametrize(("facts", "expected"), OFFSETS)
def test_sentinel2_offset_table(facts, expected):
    assert radiometry.sentinel2_offset(**facts) == expected


def test_bqa_classes_and_their_order():
    clear, cirrus, cloud, both, fill = (0b0101 << 12, 0b0111 << 12, 0b1101 << 12, 0b1011 << 12, 1)
    classes = radiometry.cloud_classes_from_bqa(np.array([clear, cirrus, cloud, both, fill, 0], np.uint16))
    assert classes.tolist() == [0, 1, 2, 2, 255, 255]


def test_every_branch_of_the_offset_is_taken():
    """The rows of the table above, and nothing else, walk every branch: found by the lines that each row ends on."""
    source, first = inspect.getsourcelines(radiometry.sentinel2_offset)
    returns = {first + k for k, line in enumerate(source) if line.strip().startswith("return ")}
    taken = set()

    def trace(frame, event, _argument):
        if frame.f_code is radiometry.sentinel2_offset.__code__ and event == "return":
            taken.add(frame.f_lineno)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for facts, _ in OFFSETS:
            radiometry.sentinel2_offset(**facts)
    finally:
        sys.settrace(before)
    assert taken == returns


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("04.00",), 4.0),
        (("0510",), 5.1),
        ((None, "S2B_MSIL2A_20190629T212529_N0212_R043_T06VVN_20201006T080531.SAFE"), 2.12),
        ((None, ""), None),
        (("unknown", "S2A_28QCH_20200714_0_L2A"), None),
    ],
)
def test_processing_baseline(texts, expected):
    assert radiometry.processing_baseline(*texts) == expected


def test_validity_rules():
    bits = {k: bool(radiometry.valid_from_qa_pixel(np.uint16(1 << k))) for k in range(16)}
    assert [k for k, valid in bits.items() if not valid] == [
        0,
        1,
        2,
        3,
        4,
    ]  # fill, dilated cloud, cirrus, cloud, shadow
    assert radiometry.valid_from_qa_pixel(np.array([21824, 22280, 23888, 55052, 1], np.uint16)).tolist() == [
        True, False, False, False, False,
    ]  # fmt: skip
    assert not radiometry.valid_from_qa_pixel(np.uint16(1 << 5), invalid=(5,))  # snow, where it is unwanted
    scl = np.arange(12, dtype=np.uint8)
    assert np.flatnonzero(~radiometry.valid_from_scl(scl)).tolist() == [0, 1, 3, 8, 9, 10]
    assert np.flatnonzero(~radiometry.valid_from_scl(scl, (0, 11))).tolist() == [0, 11]
    clear, cirrus, cloud, fill, dropped = 0b0101 << 12, 0b0111 << 12, 0b1101 << 12, 1, (0b0101 << 12) | 2
    quality = np.array([clear, cirrus, cloud, fill, dropped], np.uint16)
    assert radiometry.valid_from_bqa(quality).tolist() == [True, False, False, False, False]


def test_offset_evidence():
    dark, bright = np.full(100, 0.02), np.full(100, 0.3)
    assert radiometry.offset_evidence({"B02": dark, "B08": bright}) == ""
    assert "above 0.102" in radiometry.offset_evidence({"B02": dark + 0.082, "B08": bright})
    water = np.full(100, -0.09)
    assert "-0.090 in B08" in radiometry.offset_evidence({"B02": dark, "B08": water}, water < 0)
    assert radiometry.offset_evidence({"B02": dark, "B08": water}) == ""  # what is dark is not known
    assert radiometry.offset_evidence({"B02": np.full(3, np.nan)}) == ""


@pytest.mark.parametrize("spec", SENSORS.values(), ids=SENSORS.keys())
def test_every_sensor_record_is_consistent(spec):
    names = [b.name for b in spec.bands]
    assert len(set(names)) == len(names)
    for band in spec.bands:
        assert band.kind in RESAMPLING
        assert spec.band(band.name) is band
        assert all(spec.band(alias).name in names for alias in band.assets)
        assert band.display[0] < band.display[1]
        if band.kind == "reflectance":
            assert 0.4 < band.wavelength < 2.5
        if band.kind in ("power", "db"):
            assert band.polarisation in ("VV", "VH", "HH", "HV")
    if spec.quality:
        assert spec.quality.band in names
        assert spec.quality.band not in spec.band_names()


@pytest.mark.shared
def test_guard_flags_exactly_the_place_that_kept_its_offset(shared):
    import rasterio

    flagged = []
    for path in sorted((shared / "s1_s2_lulc" / "S2L2A").glob("*.tif")):
        with rasterio.open(path) as file:
            bands = {f"B{k}": band * 1e-4 for k, band in enumerate(file.read(), start=1)}
        if radiometry.offset_evidence(bands):
            flagged.append(path.stem)
    assert flagged == ["433D_629L_3_1"]
