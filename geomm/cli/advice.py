"""Commands that help when something does not work."""

from __future__ import annotations

from typing import Annotated

import typer

from geomm.cli import complete
from geomm.explanations import EXPLANATIONS
from geomm.explanations import explain as explanation


def explain(
    code: Annotated[
        str, typer.Argument(help="such as E301 or GEOMM-E301; without it, all codes", autocompletion=complete.codes)
    ] = "",
) -> None:
    """Explain the code at the end of an error: what it means, usual causes, what to do.

    Example: `geomm explain E301`
    """
    if code:
        typer.echo(explanation(code))
        return
    for one in EXPLANATIONS.values():
        typer.echo(f"{one.code:12} {one.name:24} {one.meaning}")


def doctor(
    without_test: Annotated[bool, typer.Option("--without-test", help="leave out the self test")] = False,  # noqa: FBT002
) -> None:
    """Check the installation: libraries, GDAL, PROJ, GPU, dask, memory, disk; then map a made-up scene from end to end.

    Status 1 if anything fails. Nothing is downloaded; what the self test writes is removed.

    Example: `geomm doctor`, `geomm doctor --without-test`
    """
    from geomm.doctor import Finding, examine, self_test

    worst = 0

    def show(finding: Finding) -> None:
        nonlocal worst
        typer.echo(f"{finding.status:5} {finding.name:16} {finding.text}")
        if finding.fix:
            typer.echo(f"{'':22} -> {finding.fix}")
        worst = max(worst, finding.status == "fail")

    for finding in examine():
        show(finding)
    if not without_test:
        for finding in self_test():
            show(finding)
    raise typer.Exit(worst)
