"""Work that is killed at any change it makes to the disk goes on to the same files, and leaves no others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CRASHING = Path(__file__).with_name("crashing.py")


@pytest.mark.parametrize(("work", "changes"), [("maps", 90), ("store", 140)])
def test_killed_at_a_change_to_the_disk(work, changes, tmp_path):
    step = 1 if os.environ.get("GEOMM_SOAK") else changes // 8
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(CRASHING), work, str(tmp_path), str(step)],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["changes"] >= changes
    assert told["bad"] == {}
