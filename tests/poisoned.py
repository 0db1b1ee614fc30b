"""Run a batch with worker processes in which one unit kills the process that works on it."""

from __future__ import annotations

import os
import signal
import sys

from geomm.batch import mapping, work

_KIND = {**work._MAKERS, "predict": "poisoned"}
work._MAKERS = _KIND


def make(task, folder, clock, told):
    """Kill this process, or map."""
    if task.unit.name == os.environ["GEOMM_POISON"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return mapping.make(task, folder, clock, told)


if __name__ == "__main__":
    from geomm.batch import BatchOptions, run_batch
    from geomm.config import load_batch

    options = BatchOptions("local", 2, delay=0.1)
    sys.exit(run_batch(load_batch(sys.argv[1]), sys.argv[2], options).code)
