"""An index that is being built is killed, again and again: it always opens, with whole commits, and goes on."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import geomm
from geomm.models.multimodal import ModelSpec, MultimodalModel
from geomm.package import InputContract, save_package
from geomm.pipeline.indexing import IndexOptions, index_source, open_index
from geomm.retrieval import Index, verify_index
from geomm.retrieval.build import IndexSettings
from geomm.train import Fitted
from geomm.transforms import Normaliser

SCRIPT = """
import os, random, signal, sys, time
import torch
torch.set_num_threads(1)
from geomm.package import load_package
from geomm.pipeline.indexing import IndexOptions, index_source
from geomm.retrieval import Index, build
model, source, out, kills = load_package(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
build.COMMIT = 1
options = IndexOptions(build.IndexSettings(16, "both", side=2, batch=4))
random.seed(0)


def work(folder):
    child = os.fork()
    if not child:
        index_source(model, source, folder, options=options)
        os._exit(0)
    return child


began = time.time()
os.waitpid(work(f"{out}-first"), 0)
whole, done, seen = time.time() - began, 0, 0
while done < kills:
    child = work(out)
    time.sleep(random.random() * whole)
    if os.waitpid(child, os.WNOHANG)[0]:  # it was done before
        os.rename(out, f"{out}-{done}-{time.time()}")
        continue
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    done += 1
    if os.path.exists(os.path.join(out, "index.json")):
        index = Index.open(out)
        chips = sum(b - a + 1 for a, b in index.jobs.get("scene", {"chips": []})["chips"])
        assert len(index) == 3 * chips and chips % 4 == 0, (len(index), chips)
        seen += 0 < chips < 48
print(seen)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """An untrained model, which is as good as any for this."""
    streams = {
        "optical": geomm.Modality("landsat-oli-l1", ("B2", "B3", "B4")),
        "thermal": geomm.Modality("landsat-tirs-l1", ("B10", "B11")),
    }
    spec = ModelSpec({"optical": 3, "thermal": 2}, 8, "contrastive", "tiny_cnn", "sum", 4, "tiny", streams=streams)
    normaliser = Normaliser(
        {"optical": (0.2,) * 3, "thermal": (290.0,) * 2}, {"optical": (0.1,) * 3, "thermal": (9.0,) * 2}
    )
    units = {"optical": "reflectance", "thermal": "kelvin_brightness_temperature"}
    contract = InputContract(streams, units, (), 30.0, 16, 0)
    fitted = Fitted(MultimodalModel(spec).eval(), normaliser, ())
    return save_package(fitted, contract, tmp_path_factory.mktemp("model") / "m", name="untrained")


def test_killed_while_indexing_it_opens_with_whole_commits_and_goes_on(package, landsat, tmp_path):
    kills, out = int(os.environ.get("GEOMM_KILLS", "3")), tmp_path / "index"
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(package.path), landsat.href, str(out), str(kills)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 0, "no kill fell into the work"
    options = IndexOptions(IndexSettings(16, "both", side=2, batch=4))
    rest = index_source(package, landsat.href, out, options=options)
    whole = index_source(package, landsat.href, tmp_path / "whole", options=options)
    one, other = (i.rows(i.numbers).sort_values("id") for i in (whole, rest))
    assert one["id"].tolist() == other["id"].tolist()
    assert np.array_equal(whole.vectors(one.index), rest.vectors(other.index))
    assert verify_index(out) == []
    assert len(open_index(out).search("a lake", k=5)) == 5
    assert len(Index.open(out)) == 48 * 3
