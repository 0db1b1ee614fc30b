"""The report of a run over a catalog: ``run.json`` for machines, and one page that needs nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from geomm.archive.durable import explained
from geomm.batch.page.advice import outcome_of
from geomm.batch.page.counts import commands, counts, reasons
from geomm.batch.page.footprints import footprints
from geomm.batch.page.listing import listing
from geomm.batch.page.style import STYLE
from geomm.batch.page.thumbnails import thumbnails
from geomm.batch.page.times import times
from geomm.batch.record import RunRecord
from geomm.pages import digest, duration, facts, header, page, section, size, text
from geomm.whole import write_whole


def write_report(record: RunRecord, folder: Path, *, root: Path | None) -> Path:
    """Write ``run.json`` and ``report.html``; each appears whole, older ones are replaced.

    The same record and pictures give the same bytes.

    Args:
        record: of the run.
        folder: of both files; made if it is not there.
        root: output that paths of the record are relative to; without it there are no pictures.

    Returns:
        Path of the page.

    Raises:
        OutputError: a file cannot be written.
    """
    content = json.dumps(record.to_dict(), indent=1, allow_nan=False)
    target = folder / "report.html"
    with explained("a file cannot be written", folder):
        write_whole(folder / "run.json", (content + "\n").encode())
        write_whole(target, _page(record, root).encode(errors="replace"))
    return target


def _page(record: RunRecord, root: Path | None) -> str:
    body = (
        f"{_header(record)}"
        f"{section('What needs a look', reasons(record), name='reasons')}"
        f"{section('What to do next', commands(record, root), name='commands')}"
        f"{section('Pictures', thumbnails(record, root), name='pictures')}"
        f"{section('Where the time went', times(record), name='times')}"
        f"{section('Units', listing(record), name='units')}"
    )
    footer = f"geomm {text(record.version)}. Everything is in run.json. Hashes are shortened; a click marks the whole."
    return page(f"{text(record.name)}: run of geomm", body, footer=footer, style=STYLE)


def _header(record: RunRecord) -> str:
    outcome = outcome_of(record.exit_code)
    chips = [
        f"run {digest(record.run)}",
        f"{record.began:%Y-%m-%d %H:%M %Z}, {duration(record.wall)}",
        f"on {text(record.host, 40)}",
        f"recipe {digest(record.recipe_sha256)}",
        f"{size(sum(u.bytes for u in record.units))} published",
        f"{record.retries:,} retr{'y' if record.retries == 1 else 'ies'}",
        f"{size(record.resident_mb * 1e6)} of memory",
    ]
    body = (
        f'<p class="lead">{text(record.description, 600)}</p>'
        f'<div class="outcome {outcome.tone}"><b>{text(record.outcome, 600)}</b>'
        f"<small>exit code {record.exit_code}: {outcome.words}</small></div>{facts(chips)}{counts(record)}"
    )
    return header("Run over a catalog", text(record.name), body, beside=footprints(record))
