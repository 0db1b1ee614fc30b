"""geomm in Airflow 3: a task per recipe, every night. Put this file into the folder of DAGs.

Early releases of Airflow 3 have the exceptions in ``airflow.exceptions``.
"""

from __future__ import annotations

import logging
import subprocess
import time
from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

RECIPES = ["daily", "weekly"]
"""Names of the recipes in ``/etc/geomm``."""
_log = logging.getLogger(__name__)


def call(command: list[str]) -> int:
    """Run a command; a task that is stopped tells it so and waits, as a killed run loses the units at work."""
    process = subprocess.Popen(command)
    try:
        while process.poll() is None:
            time.sleep(0.5)  # not wait(): a signal in the moment before it begins would be seen only when it ends
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process.returncode


@dag(schedule="15 3 * * *", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=1)
def geomm_batch() -> None:
    """Make what is new in the catalogs."""

    @task(retries=2, retry_delay=timedelta(minutes=10), execution_timeout=timedelta(hours=20))
    def run(recipe: str) -> int:
        code = call(["geomm", "run", f"/etc/geomm/{recipe}.yaml", "--out", f"/srv/geomm/{recipe}"])
        if code == 75:
            raise AirflowSkipException(f"another run of {recipe} holds the output")
        if code in (2, 4):  # the recipe is wrong, or too much failed: trying again changes nothing
            raise AirflowFailException(f"geomm exited with {code}; see /srv/geomm/{recipe}")
        if code not in (0, 3):  # 1, or stopped by a signal: the same command goes on where it was
            raise AirflowException(f"geomm exited with {code}")
        if code == 3:
            _log.warning("some units failed or were put aside; the report in /srv/geomm/%s says which", recipe)
        return code

    run.expand(recipe=RECIPES)


geomm_batch()
