"""Run a batch in which one unit kills the process that works on it: recipe, output, scheduler."""

from __future__ import annotations

import os
import signal
import sys

from geomm.batch import mapping, work

if "GEOMM_POISON" in os.environ:  # of this process and of all that it starts
    work._MAKERS = {**work._MAKERS, "predict": "poisoned"}


def make(task, folder, clock, told):
    """Kill this process, or map."""
    if task.unit.name == os.environ["GEOMM_POISON"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return mapping.make(task, folder, clock, told)


if __name__ == "__main__":
    from geomm.batch import BatchOptions, run_batch
    from geomm.config import load_batch

    options = BatchOptions(sys.argv[3], 2 if sys.argv[3] == "local" else 1, delay=0.1)
    sys.exit(run_batch(load_batch(sys.argv[1]), sys.argv[2], options).code)
