"""Calibration and quality bits against values worked out by hand from the product handbooks."""

from __future__ import annotations

import numpy as np
import pytest

from geomm import radiometry
from geomm.errors import UnitError
from geomm.sensors import RESAMPLING, SENSORS, get_sensor


@pytest.mark.parametrize(
    ("sensor", "band", "dn", "expected", "tolerance"),
    [
        ("landsat-oli-l2", "B4", 18639, 0.313, 5e-4),
        ("landsat-tirs-l2", "ST_B10", 44947, 302.6, 0.05),
        ("landsat-oli-l1", "B4", 10000, 0.1, 1e-9),
        ("sentinel2-l2a", "B04", 2500, 0.25, 1e-9),
    ],
)
def test_golden_values(sensor, band, dn, expected, tolerance):
    c = get_sensor(sensor).band(band).calibration
    assert radiometry.to_physical(float(dn), c.scale, c.offset, c.k1, c.k2) == pytest.approx(expected, abs=tolerance)


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


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
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
    ],
)
def test_sentinel2_offset_table(facts, expected):
    assert radiometry.sentinel2_offset(**facts) == expected


def test_bqa_classes_and_their_order():
    clear, cirrus, cloud, both, fill = (0b0101 << 12, 0b0111 << 12, 0b1101 << 12, 0b1011 << 12, 1)
    classes = radiometry.cloud_classes_from_bqa(np.array([clear, cirrus, cloud, both, fill, 0], np.uint16))
    assert classes.tolist() == [0, 1, 2, 2, 255, 255]


def test_validity_rules():
    assert radiometry.valid_from_qa_pixel(np.array([0b1000000, 1, 8, 16])).tolist() == [True, False, False, False]
    scl = np.arange(12)
    assert np.flatnonzero(~radiometry.valid_from_scl(scl)).tolist() == [0, 1, 3, 8, 9, 10]


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
            low = np.percentile(file.read().reshape(file.count, -1), 1, axis=1)
        if radiometry.looks_unharmonised(low):
            flagged.append(path.stem)
    assert flagged == ["433D_629L_3_1"]
