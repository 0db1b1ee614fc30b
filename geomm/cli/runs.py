"""Commands that look after what batches have done."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomm.cli import complete
from geomm.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from geomm.ledger import Ledger, State, Unit

app = typer.Typer(help="Batches: what they have done, what failed, what to try again.", no_args_is_help=True)

OutArgument = Annotated[Path, typer.Argument(help="output of a batch, or the folder of its ledger")]
JsonOption = Annotated[bool, typer.Option("--json", help="for machines")]
StageOption = Annotated[str | None, typer.Option(help="only this stage")]


@app.command("list")
def list_runs(out: OutArgument, as_json: JsonOption = False) -> None:  # noqa: FBT002
    """List the runs of a batch, the newest first, and how far one is that is at work.

    Example: `geomm runs list runs/clouds`
    """
    with _ledger(out) as ledger:
        runs = ledger.runs()
    if as_json:
        typer.echo(json.dumps([{f: getattr(r, f) for f in r.__dataclass_fields__} for r in runs], default=dict))
        return
    for run in runs:
        counts = ", ".join(f"{number} {state.lower()}" for state, number in sorted(run.counts.items()))
        status = "at work or killed" if run.code is None else f"status {run.code}"
        typer.echo(f"{run.id:24} {_instant(run.started)}  {status:18} {counts}")
    beat = _state(out) / "heartbeat.json"
    if beat.is_file():
        told = json.loads(beat.read_text())
        if told["state"] == "running":
            age = time.time() - told["time"]
            typer.echo(
                f"{told['run']}: {told['stage']} {told['done']}/{told['total']}, last sign of life {age:.0f} s ago"
            )


@app.command()
def show(
    out: OutArgument,
    stage: StageOption = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="only units of this state; repeatable", autocompletion=complete.one_of(complete.STATES)),
    ] = None,
    as_json: JsonOption = False,  # noqa: FBT002
) -> None:
    """Show the units of a batch; by default those that are not published, and how many there are of every state.

    Example: `geomm runs show runs/clouds --state quarantined`
    """
    with _ledger(out) as ledger:
        wanted: tuple[State, ...] = _states(state) if state else ("CLAIMED", "QUARANTINED", "FAILED", "ABORTED")
        _check_stage(ledger, stage)
        units, counts = ledger.units(stage, wanted), ledger.counts(stage)
    if as_json:
        typer.echo(json.dumps([u.to_row() for u in units]))
        return
    for unit in units:
        place = " ".join(p for p in (unit.item, unit.asset, unit.window) if p)
        typer.echo(f"{unit.state:12} {unit.stage} {unit.name} {unit.id[:12]} {unit.code} {place}".rstrip())
        if unit.message:
            typer.echo(f"             {unit.message}")
    typer.echo(", ".join(f"{number} {name.lower()}" for name, number in sorted(counts.items())) or "no units")


@app.command()
def retry(
    out: OutArgument,
    unit: Annotated[list[str] | None, typer.Argument(help="names or ids; default all that failed")] = None,
    stage: StageOption = None,
    code: Annotated[str | None, typer.Option(help="only those that failed with this code, such as E302")] = None,
) -> None:
    """Let units that failed or were quarantined be tried again by the next run.

    Example: `geomm runs retry runs/clouds --code E306`
    """
    from geomm.batch.guard import alone
    from geomm.ledger import Ledger

    state = _state(out)
    with alone(state), Ledger(state / "ledger.sqlite", write=True) as ledger:
        _check_stage(ledger, stage)
        failed = ledger.units(stage, ("QUARANTINED", "FAILED"))
        code = None if code is None else _code(code, [u.code for u in failed])
        found = [u for u in failed if code in (None, u.code)]
        if unit:
            found = [u for u in found if any(w in (u.name, u.id) or u.id.startswith(w) for w in unit)]
        if unit and not found:
            raise ConfigError(
                "no unit that failed is called that", where=", ".join(unit), fix="`geomm runs show` lists them"
            )
        for one in found:
            ledger.reset(one.stage, [one.id])
    typer.echo(f"{len(found)} units wait for the next run")


@app.command()
def verify(
    out: OutArgument,
    stage: StageOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="compare sizes only")] = False,  # noqa: FBT002
    mend: Annotated[bool, typer.Option("--mend", help="let the next run make damaged units again")] = False,  # noqa: FBT002
) -> None:
    """Compare every published file with its checksum; status 1 if any is damaged or missing.

    Example: `geomm runs verify runs/clouds --mend`
    """
    from geomm.pipeline.checking import verify_batch
    from geomm.progress import Bars

    state = _state(out)
    with _ledger(out) as ledger:
        _check_stage(ledger, stage)
        root = ledger.noted("root")
    with Bars() as bars:
        found = verify_batch(state, root, stage=stage, deep=not quick, progress=bars.update)
    for _, line in found:
        typer.echo(line)
    typer.echo(f"{out}: {f'{len(found)} files damaged or missing' if found else 'whole'}")
    if found and mend:
        _forget(state, root, [unit for unit, _ in found])
        typer.echo("the next run makes their units again")
    raise typer.Exit(1 if found else 0)


def _forget(state: Path, root: str, units: list[Unit]) -> None:
    """Let damaged units be made again by the next run."""
    from geomm.archive import open_target
    from geomm.batch.guard import alone
    from geomm.ledger import Ledger

    target = open_target(root)
    with alone(state), Ledger(state / "ledger.sqlite", write=True) as ledger:
        for one in {u.id: u for u in units}.values():
            target.remove(one.place)
            ledger.reset(one.stage, [one.id])


def _state(out: Path) -> Path:
    """Return the folder of the ledger.

    Raises:
        ConfigError: there is none.
    """
    for place in (out, out / ".geomm"):
        if (place / "ledger.sqlite").is_file():
            return place
    raise ConfigError("there is no ledger", where=str(out), fix="name the output of `geomm run`, or its --state folder")


def _ledger(out: Path) -> Ledger:
    from geomm.ledger import Ledger

    return Ledger(_state(out) / "ledger.sqlite")


def _check_stage(ledger: Ledger, stage: str | None) -> None:
    """Refuse the name of a stage that a batch does not have.

    Raises:
        UnknownNameError: there is none.
    """
    known = ledger.stages()
    if stage is not None and stage not in known:
        raise UnknownNameError.of("stage", stage, known)


def _code(code: str, there: list[str]) -> str:
    """Return the code of a failure as units have it.

    Raises:
        UnknownNameError: nothing fails with it.
    """
    from geomm.explanations import EXPLANATIONS

    short = code.upper().removeprefix("GEOMM-")
    if short not in {*there, *EXPLANATIONS}:
        raise UnknownNameError.of("code", code, set(there) or EXPLANATIONS)
    return short


def _states(names: list[str]) -> tuple[State, ...]:
    from geomm.ledger import STATES

    wrong = [n for n in names if n.upper() not in STATES]
    if wrong:
        raise ConfigError(
            f"unknown state {wrong[0]!r}",
            why=f"known: {', '.join(s.lower() for s in STATES)}",
            fix="for example --state failed",
        )
    return tuple(s for s in STATES if s.lower() in {n.lower() for n in names})


def _instant(seconds: float) -> str:
    return f"{dt.datetime.fromtimestamp(seconds, dt.UTC):%Y-%m-%d %H:%M:%SZ}"
