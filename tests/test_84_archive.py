"""An archive that grows, is corrected, and is indexed area by area: every chip is there once, and nothing twice."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest
import yaml

import geomm
from geomm.errors import ContractError
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.package import InputContract, save_package
from geomm.pipeline.indexing import IndexOptions, index_source
from geomm.pipeline.jobs import find_scenes_of
from geomm.retrieval import build
from geomm.retrieval.build import IndexSettings
from geomm.retrieval.embedder import Embedder
from geomm.testing import ORIGIN, write_scene
from geomm.train import Fitted
from geomm.transforms import Normaliser

STREAMS = {
    "s2": geomm.Modality("sentinel2-l2a", ("B02", "B03", "B04")),
    "s1": geomm.Modality("sentinel1-rtc", ("VV", "VH")),
}
SIDE = 640.0


def _package(folder, required=()):
    spec = ModelSpec({"s2": 3, "s1": 2}, 8, "contrastive", "tiny_cnn", "sum", 4, "tiny", streams=STREAMS)
    normaliser = Normaliser({"s2": (0.2,) * 3, "s1": (0.1,) * 2}, {"s2": (0.1,) * 3, "s1": (0.1,) * 2})
    contract = InputContract(STREAMS, {"s2": "reflectance", "s1": "gamma0_power"}, (), 10.0, 16, 0, required)
    return save_package(Fitted(MultimodalModel(spec).eval(), normaliser, ()), contract, folder, name="untrained")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return _package(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def archive(tmp_path):
    """Files of 64 x 64 pixels, named by place, catalogued with a date each."""

    class Archive:
        dates, offset = {}, 0

        def add(self, name, day, *, east=0.0, south=0.0, sensor="sentinel2-l2a"):
            where = (ORIGIN[0] + east * SIDE, ORIGIN[1] - south * SIDE)
            bands = STREAMS["s2"].bands if sensor == "sentinel2-l2a" else STREAMS["s1"].bands
            folder = tmp_path / "files" / sensor
            write_scene(
                folder, sensor, item=name, bands=bands, shape=(64, 64), resolution=10.0, origin=where, seed=len(name)
            )
            self.dates[name] = (day, sensor, bands)

        def catalog(self):
            rules = [
                {
                    "sensor": s,
                    "pattern": f"{s}/{{id}}_{{band}}.tif",
                    "bands": list(b),
                    "datetime": d,
                }
                for d, s, b in dict.fromkeys(self.dates.values())
            ]
            assert len({r["sensor"] for r in rules}) == len(rules), "one date for a sensor"
            return self._written(rules)

        def _written(self, rules):
            definition = {"properties": {"*": {"geomm:s2_offset": self.offset}}, "items": rules}
            return geomm.build_catalog(
                tmp_path / "files", tmp_path / "catalog", definition=yaml.safe_load(yaml.safe_dump(definition))
            ).href

    return Archive()


def _rows(index):
    table = index.rows(index.numbers)
    assert table["id"].is_unique
    return table


def _embedded(monkeypatch):
    """Count chips that go through the model."""
    count, images = [0], Embedder.images

    def counted(self, batch):
        count[0] += len(next(iter(batch.images.values())))
        return images(self, batch)

    monkeypatch.setattr(Embedder, "images", counted)
    return count


def test_a_neighbour_that_comes_later_leaves_the_others_alone(package, archive, tmp_path, monkeypatch):
    archive.add("aa", "2020-06-01T10:00:00Z")
    archive.add("bb", "2020-06-01T10:00:00Z", east=0.75)
    first = _rows(index_source(package, archive.catalog(), tmp_path / "index"))
    assert len(first) == 32
    archive.add("ab", "2020-06-01T10:00:00Z", east=1.5)
    count = _embedded(monkeypatch)
    again = _rows(index_source(package, archive.catalog(), tmp_path / "index"))
    assert count[0] == 16
    assert set(first["id"]) < set(again["id"])
    assert len(again) == 48


def test_what_other_sensors_saw_is_fused_and_arrives_late(package, archive, tmp_path):
    archive.add("aa", "2020-06-01T10:00:00Z")
    alone = _rows(index_source(package, archive.catalog(), tmp_path / "index"))
    assert set(alone["sensors"]) == {"sentinel2-l2a"}
    archive.add("radar", "2020-06-01T17:00:00Z", sensor="sentinel1-rtc")
    both = _rows(index_source(package, archive.catalog(), tmp_path / "index"))
    assert set(both["sensors"]) == {"sentinel2-l2a,sentinel1-rtc"}
    assert len(both) == 16
    apart = index_source(package, archive.catalog(), tmp_path / "other", options=IndexOptions(within=0.1))
    assert sorted(set(_rows(apart)["sensors"])) == ["sentinel1-rtc", "sentinel2-l2a"]


def test_what_the_model_cannot_do_without_is_waited_for(archive, tmp_path):
    strict = _package(tmp_path / "strict", required=("s2", "s1"))
    archive.add("aa", "2020-06-01T10:00:00Z")
    archive.add("far", "2020-06-01T12:00:00Z", east=5.0, sensor="sentinel1-rtc")
    with pytest.raises(ContractError, match="no scene has all that the model needs"):
        index_source(strict, archive.catalog(), tmp_path / "index")
    assert not (tmp_path / "index").exists()
    archive.add("radar", "2020-06-01T12:00:00Z", sensor="sentinel1-rtc")
    assert len(index_source(strict, archive.catalog(), tmp_path / "index")) == 16


def test_areas_add_up_to_the_whole(package, archive, tmp_path):
    archive.add("aa", "2020-06-01T10:00:00Z")
    href = archive.catalog()
    scene = geomm.open_catalog(href).search()[0]
    west, south, east, north = scene.bbox
    middle = (west + east) / 2
    left = index_source(package, href, tmp_path / "index", aoi=(west, south, middle, north))
    assert 8 <= len(left) < 16
    whole = index_source(package, href, tmp_path / "index", aoi=(middle, south, east, north))
    assert len(_rows(whole)) == 16
    fresh = index_source(package, href, tmp_path / "fresh")
    one, other = (_rows(i).sort_values("id") for i in (whole, fresh))
    assert one["id"].tolist() == other["id"].tolist()
    assert np.array_equal(whole.vectors(one.index), fresh.vectors(other.index))


def test_corrected_metadata_is_noticed(package, archive, tmp_path):
    archive.add("aa", "2020-06-01T10:00:00Z")
    before = index_source(package, archive.catalog(), tmp_path / "index")
    old = before.vectors(_rows(before).sort_values("id").index)
    archive.offset, archive.dates["aa"] = -1000, ("2020-06-01T11:11:00Z", *archive.dates["aa"][1:])
    after = index_source(package, archive.catalog(), tmp_path / "index")
    table = _rows(after).sort_values("id")
    assert len(table) == 16
    assert set(table["datetime"].dt.strftime("%H:%M")) == {"11:11"}
    assert np.abs(after.vectors(table.index) - old).max() > 1e-3


@pytest.mark.parametrize("commits", [0, 1])
def test_a_replacement_that_was_stopped_loses_nothing(package, archive, tmp_path, monkeypatch, commits):
    archive.add("aa", "2020-06-01T10:00:00Z")
    href, options = archive.catalog(), IndexOptions(IndexSettings(16, batch=4))
    monkeypatch.setattr(build, "COMMIT", 1)
    index_source(package, href, tmp_path / "index", options=options)
    done, commit = [0], build._commit

    def falls(index, rows, jobs):
        if rows.table:
            done[0] += 1
            if done[0] > commits:
                raise KeyboardInterrupt
        commit(index, rows, jobs)

    with monkeypatch.context() as patch:
        patch.setattr(build, "_commit", falls)
        with pytest.raises(KeyboardInterrupt):
            index_source(
                package, href, tmp_path / "index", options=IndexOptions(IndexSettings(16, batch=4, enough=0.2))
            )
    again = index_source(package, href, tmp_path / "index", options=options)
    assert len(_rows(again)) == 16


def test_a_chip_names_the_items_that_it_touches(package, archive, tmp_path):
    archive.add("aa", "2020-06-01T10:00:00Z")
    archive.add("left", "2020-06-01T12:00:00Z", east=-0.5, sensor="sentinel1-rtc")
    archive.add("right", "2020-06-01T12:00:00Z", east=0.5, sensor="sentinel1-rtc")
    table = _rows(index_source(package, archive.catalog(), tmp_path / "index")).set_index("id")
    names = {k: {p.rpartition("/")[2] for p in json.loads(v)} for k, v in table["items"].items()}
    assert names["aa/0-0/fused"] == {"aa.json", "left.json"}
    assert names["aa/0-48/fused"] == {"aa.json", "right.json"}


def test_scenes_come_with_the_nearest_of_the_others(package, archive):
    archive.add("aa", "2020-06-01T10:00:00Z")
    archive.add("radar", "2020-06-01T12:00:00Z", sensor="sentinel1-rtc")
    (job,) = find_scenes_of(package, archive.catalog())
    assert [s.id for s in job.scenes] == ["aa", "radar"]
    assert job.scenes[0].time == dt.datetime(2020, 6, 1, 10, tzinfo=dt.UTC)
    assert job.cube(package).children["s2"].sizes["x"] == 64
