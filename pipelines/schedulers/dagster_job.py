"""geomm in Dagster: an asset with a partition per recipe, made every night. `dagster dev -f dagster_job.py` shows it.

Partitions are recipes, not days: a run makes whatever is new, of any day, and leaves alone what is there.
"""

import subprocess
import time

import dagster as dg

RECIPES = dg.StaticPartitionsDefinition(["daily", "weekly"])


def call(command: list[str]) -> int:
    """Run a command; a run that is stopped tells it so and waits, as a killed one loses the units at work."""
    process = subprocess.Popen(command)
    try:
        while process.poll() is None:
            time.sleep(0.5)  # not wait(): a signal in the moment before it begins would be seen only when it ends
    except BaseException:
        process.terminate()
        process.wait()
        raise
    return process.returncode


@dg.asset(
    partitions_def=RECIPES,
    output_required=False,
    retry_policy=dg.RetryPolicy(max_retries=2, delay=600, backoff=dg.Backoff.EXPONENTIAL),
    pool="geomm",
)
def maps(context: dg.AssetExecutionContext):
    """What a recipe makes of its catalog."""
    recipe = context.partition_key
    code = call(["geomm", "run", f"/etc/geomm/{recipe}.yaml", "--out", f"/srv/geomm/{recipe}"])
    if code == 75:
        context.log.info("another run holds the output")
        return
    if code not in (0, 3):
        # 2, the recipe is wrong, and 4, too much failed, want people; after 1 or a signal the same command goes on.
        raise dg.Failure(f"geomm exited with {code}; see /srv/geomm/{recipe}", allow_retries=code not in (2, 4))
    yield dg.MaterializeResult(
        metadata={"folder": dg.MetadataValue.path(f"/srv/geomm/{recipe}"), "complete": code == 0}
    )


job = dg.define_asset_job("geomm_batch", selection=[maps])


@dg.schedule(job=job, cron_schedule="15 3 * * *", default_status=dg.DefaultScheduleStatus.RUNNING)
def nightly(context: dg.ScheduleEvaluationContext):
    """One run per recipe."""
    day = context.scheduled_execution_time.date()
    return [dg.RunRequest(run_key=f"{key} {day}", partition_key=key) for key in RECIPES.get_partition_keys()]


defs = dg.Definitions(assets=[maps], jobs=[job], schedules=[nightly])
