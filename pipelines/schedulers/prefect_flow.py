"""geomm in Prefect 3: `python prefect_flow.py` serves a flow that runs every night."""

from __future__ import annotations

import subprocess
import time

from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed


def call(command: list[str]) -> int:
    """Run a command; a flow that is stopped tells it so and waits, as a killed run loses the units at work."""
    process = subprocess.Popen(command)
    try:
        while process.poll() is None:
            time.sleep(0.5)  # not wait(): a signal in the moment before it begins would be seen only when it ends
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process.returncode


@task(retries=2, retry_delay_seconds=600)
def run(recipe: str) -> int:
    """Run a recipe and return its exit code; what may go better next time is tried again."""
    code = call(["geomm", "run", f"/etc/geomm/{recipe}.yaml", "--out", f"/srv/geomm/{recipe}"])
    if code not in (0, 2, 3, 4, 75):  # 1, or stopped by a signal: the same command goes on where it was
        raise RuntimeError(f"geomm exited with {code}")
    return code


@flow(name="geomm")
def geomm_batch(recipe: str = "daily") -> State:
    """Make what is new in the catalog of a recipe."""
    code = run(recipe)
    if code == 75:
        return Completed(name="Skipped", message="another run holds the output")
    if code == 3:
        return Completed(name="Incomplete", message=f"some units failed or were put aside: see /srv/geomm/{recipe}")
    if code:  # 2: the recipe is wrong; 4: too much failed
        return Failed(message=f"geomm exited with {code}; see /srv/geomm/{recipe}")
    return Completed(message="everything is done")


if __name__ == "__main__":
    geomm_batch.serve(name="nightly", cron="15 3 * * *", limit=1)
