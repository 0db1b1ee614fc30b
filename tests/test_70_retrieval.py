"""The index and the annotations."""

from __future__ import annotations

import json

import geopandas
import numpy as np
import pytest
from shapely.geometry import box

from geomm import Index, read_annotations
from geomm.annotations import derive_text
from geomm.errors import CatalogError, ConfigError, OutputError, PackageError
from geomm.retrieval import build_index
from geomm.types import ClassSpec


@pytest.fixture
def index():
    generator = np.random.default_rng(0)
    places = [box(k / 10, 0, k / 10 + 0.05, 0.05) for k in range(50)]
    table = geopandas.GeoDataFrame({"text": [f"place {k}" for k in range(50)]}, geometry=places, crs="EPSG:4326")
    return build_index(list(generator.normal(size=(50, 8))), table, model_sha256="ab")


def test_search_equals_brute_force(index):
    query = np.random.default_rng(1).normal(size=8)
    cosine = index.vectors @ (query / np.linalg.norm(query))
    hits = index.search(query, k=7)
    assert hits["text"].tolist() == [f"place {k}" for k in np.argsort(-cosine)[:7]]
    np.testing.assert_allclose(hits["score"], np.sort(cosine)[::-1][:7], rtol=1e-5)
    inside = index.search(query, k=50, aoi=(1.0, 0.0, 2.0, 1.0))
    assert set(inside["text"]) == {f"place {k}" for k in range(10, 21)}


def test_round_trip_and_damage(index, tmp_path):
    folder = index.save(tmp_path / "index")
    again = Index.open(folder)
    np.testing.assert_allclose(again.vectors, index.vectors, atol=1e-3)
    assert again.model_sha256 == "ab"
    with pytest.raises(OutputError, match="exists already"):
        index.save(folder)
    damaged = bytearray((folder / "vectors.npy").read_bytes())
    damaged[-9] ^= 1
    (folder / "vectors.npy").write_bytes(damaged)
    with pytest.raises(PackageError, match=r"was changed.*vectors.npy"):
        Index.open(folder)
    with pytest.raises(PackageError, match="not an index"):
        Index.open(tmp_path)


def test_index_refuses_nonsense(index):
    with pytest.raises(ConfigError, match="k 0"):
        index.search(np.ones(8), k=0)
    with pytest.raises(ConfigError, match="does not fit the index"):
        index.search(np.ones(9))
    with pytest.raises(ConfigError, match="length zero"):
        build_index([np.zeros(3)], index.table.iloc[:1])
    with pytest.raises(ConfigError, match="one vector per row"):
        Index(np.ones((3, 2)), index.table)


def test_annotations_from_every_format(tmp_path):
    table = geopandas.GeoDataFrame(
        {"text": ["a lake", "a town"]}, geometry=[box(0, 0, 1, 1), box(0.9, 0, 3, 1)], crs="EPSG:4326"
    )
    table.to_file(tmp_path / "a.geojson")
    table.to_parquet(tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("lon,lat,text\n0.5,0.5,a lake\n2.0,0.5,a town\n")
    for name in ("a.geojson", "a.parquet", "a.csv"):
        annotations = read_annotations(tmp_path / name)
        assert len(annotations) == 2
        assert annotations.at((1.5, 0.2, 2.5, 0.8)) == ("a town",)
        assert not annotations.table["derived"].any()
    assert read_annotations(tmp_path / "a.parquet").at((0.5, 0, 1, 1)) == ("a lake", "a town")
    with pytest.raises(CatalogError, match="cannot be read"):
        read_annotations(tmp_path / "a.csv", text="caption")
    with pytest.raises(CatalogError, match="cannot be read"):
        read_annotations(tmp_path / "missing.geojson")
    geopandas.GeoDataFrame({"text": ["x"]}, geometry=[box(0, 0, 1, 1)]).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(CatalogError, match="no CRS"):
        read_annotations(tmp_path / "b.parquet")


@pytest.mark.shared
def test_real_questions_are_readable(shared):
    questions = json.loads((shared / "text_rsvqa" / "LR" / "LR_split_test_questions.json").read_text())["questions"]
    assert sum(1 for q in questions if q.get("question")) > 100


def test_derived_text_follows_the_fractions():
    classes = [ClassSpec(1, "water", "#0000ff"), ClassSpec(2, "trees", "#00ff00"), ClassSpec(3, "sand", "#ffff00")]
    assert derive_text([0.02, 0.98, 0.0], classes) == "only trees"
    assert derive_text([0.3, 0.6, 0.1], classes) == "mostly trees, some water, some sand"
    assert derive_text([0.0, 0.0, 0.0], classes) == "nothing labelled"
