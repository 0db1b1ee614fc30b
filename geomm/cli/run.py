"""The command that runs recipes: a training with its comparison, or a batch over a catalog."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomm.cli import complete
from geomm.cli.options import SetOption, assignment
from geomm.errors import ConfigError

if TYPE_CHECKING:
    from geomm.batch import BatchOptions, BatchResult
    from geomm.config import BatchConfig, RunConfig


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML recipe, see pipelines/", autocompletion=complete.recipes)],
    out: Annotated[
        str | None, typer.Option(help="folder for all that it makes, or s3://... of a batch; default runs/NAME")
    ] = None,
    set_: SetOption = None,
    scheduler: Annotated[
        str,
        typer.Option(
            help="batch: threads, local (worker processes), or tcp://... of a Dask scheduler",
            autocompletion=complete.one_of(("threads", "local", "tcp://")),
        ),
    ] = "threads",
    workers: Annotated[int, typer.Option(help="batch: units that are worked on at a time")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="batch: say what would be done, write nothing")] = False,  # noqa: FBT002
    since: Annotated[str | None, typer.Option(help="batch: only imagery from a date on, or of 7d")] = None,
    backfill: Annotated[str | None, typer.Option(help="batch: only imagery of an interval start/end")] = None,
    limit: Annotated[int | None, typer.Option(help="batch: units of a stage that are worked on at most")] = None,
    max_failures: Annotated[int, typer.Option(help="batch: units that may fail before it stops")] = 100,
    attempts: Annotated[int, typer.Option(help="batch: tries of a unit whose trouble may pass")] = 4,
    grace: Annotated[float, typer.Option(help="batch: seconds for units in work after SIGTERM")] = 30.0,
    device: Annotated[str, typer.Option(help="batch: torch device, such as cuda")] = "cpu",
    memory_gb: Annotated[float | None, typer.Option(help="batch: address space of a worker process")] = None,
    state: Annotated[Path | None, typer.Option(help="batch: folder of the ledger; default OUT/.geomm")] = None,
    metrics: Annotated[Path | None, typer.Option(help="batch: file for a metrics collector (Prometheus text)")] = None,
) -> None:
    """Run a recipe: train, compare and map; or a batch, which does what is new in a catalog and nothing twice.

    A batch ends with status 0 (all done), 1 (error), 2 (wrong recipe or option), 3 (some units failed), 4 (too many
    failed), 75 (another run is at work), or 128 and the number of the signal that stopped it.

    Example: `geomm run pipelines/landcover_s1_s2.yaml --out runs/landcover --set train.steps=60`,
    `geomm run pipelines/cloud_maps.yaml --out /data/clouds --since 7d --dry-run`
    """
    from geomm.config import find_recipe, is_batch, load_batch, load_recipe, read_yaml

    overrides = dict(assignment(text) for text in set_ or ())
    recipe = find_recipe(recipe)
    if not is_batch(read_yaml(recipe)):
        if dry_run or since or backfill:
            raise ConfigError("this recipe is no batch", where=str(recipe), fix="leave out the options of a batch")
        words = ["run", str(recipe), *(w for text in set_ or () for w in ("--set", text))]
        run_recipe(load_recipe(recipe, overrides), None if out is None else Path(out), words)
        return
    from geomm.batch import BatchOptions

    options = BatchOptions(
        scheduler, workers, state, dry_run, since, backfill, limit, max_failures, attempts,
        grace=grace, device=device, memory_gb=memory_gb, metrics=metrics,
    )  # fmt: skip
    config = load_batch(recipe, overrides)
    raise typer.Exit(_batch(config, out or str(Path("runs") / config.name), options))


def _batch(config: BatchConfig, out: str, options: BatchOptions) -> int:
    from geomm.batch import run_batch
    from geomm.batch.records import outcome
    from geomm.progress import Bars

    with Bars() as bars:
        result = run_batch(config, out, options, progress=bars.update)
    if options.dry_run:
        _show_plan(result)
        return result.code
    for unit in result.units:
        if unit.state in ("QUARANTINED", "FAILED"):
            typer.echo(f"{unit.state.lower():12} {unit.stage} {unit.name}: {unit.message}", err=True)
    if result.error is not None:
        typer.echo(f"geomm: {result.error}", err=True)
    for stage in result.waits:
        typer.echo(f"stage {stage} waits: an earlier one has made nothing yet", err=True)
    typer.echo(f"{out}: {outcome(result)}")
    if result.report is not None:
        typer.echo(f"report   {result.report}")
    elif result.units:
        typer.echo("the page of the run cannot be written", err=True)
    if result.code >= 128:
        typer.echo("stopped; the same command goes on", err=True)
    return result.code


def _show_plan(result: BatchResult) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("stage", "unit", "time", "what", "why", "reads")
    told = {"present": "skip", "quarantined": "skip", "new": "new", "again": "again", "damaged": "recompute"}
    counts: dict[str, int] = {}
    for action in result.actions:
        unit = action.unit
        counts[told[action.why]] = counts.get(told[action.why], 0) + 1
        if action.why != "present":
            why = f"{action.why}: {unit.code} {unit.message[:60]}" if action.why == "quarantined" else action.why
            table.add_row(unit.stage, unit.name, unit.time[:16], told[action.why], why, _size(action.bytes))
    if table.rows:
        Console().print(table)
    for stage in result.waits:
        typer.echo(f"stage {stage}: cannot be planned before an earlier stage has made something")
    size = sum(a.bytes or 0 for a in result.actions)
    text = ", ".join(f"{number} {what}" for what, number in sorted(counts.items())) or "nothing to do"
    typer.echo(text + (f"; reads {_size(size)}" if size else ""))


def _size(number: int | None) -> str:
    """Write a number of bytes for people."""
    if number is None:
        return ""
    power = 3 if number >= 1e9 else 2 if number >= 1e6 else 1
    return f"{number / 1000**power:.1f} {('kB', 'MB', 'GB')[power - 1]}"


def run_recipe(config: RunConfig, out: Path | None, words: Sequence[str]) -> None:
    """Train a recipe's models, compare them, and print what came out.

    Args:
        config: the recipe.
        out: folder for all that it makes; None for that of the recipe's name.
        words: the command that was given, without the folder.
    """
    from rich.console import Console
    from rich.table import Table

    from geomm.pipeline.recipe import run as run_training
    from geomm.pipeline.results import table, verdict
    from geomm.progress import Bars

    target = out or Path("runs") / config.name
    line = shlex.join(["geomm", *words, "--out", str(target)])
    if config.task == "contrastive":
        _run_search(config, target, line)
        return
    with Bars() as bars:
        result = run_training(config, target, progress=bars.update, command=line)
    head, *rows = table(result.rows, [c.name for c in config.classes()])
    grid = Table(*head, title="IoU on test pixels")
    for row in rows:
        grid.add_row(*row)
    console = Console()
    console.print(grid)
    for fold in dict.fromkeys(r.fold for r in result.rows):
        console.print(("" if fold == "blocks" else f"Without {fold}: ") + verdict(result.rows, fold))
    for product in result.products.values():
        for path in product.files.values():
            typer.echo(f"map      {path}")
        typer.echo(f"item     {product.item}")
    typer.echo(f"model    {result.package}\nreport   {result.report}")


def _run_search(config: RunConfig, target: Path, command: str) -> None:
    from geomm.pipeline.retrieve import lines, run_search
    from geomm.progress import Bars

    with Bars() as bars:
        result = run_search(config, target, progress=bars.update, command=command)
    for line in lines(result):
        typer.echo(line)
    typer.echo(f"\nmodel    {result.package}\nindex    {result.index}\nreport   {result.report}")
    typer.echo(f'ask      geomm search {result.index} "..."')
