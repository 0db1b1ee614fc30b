"""The report of a contrastive recipe: how well words find, what they found, what went in, how to do it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geomm import charts
from geomm.config import RunConfig
from geomm.pages import code, duration, facts, header, section, table, text, tiles
from geomm.pipeline.clock import Notes
from geomm.pipeline.inputs import input_facts, inputs_table, places_map, split_map
from geomm.pipeline.judging import Direction
from geomm.pipeline.pages import WORDS, Chart, drawn, recipe_facts, write_page
from geomm.pipeline.results import made_with
from geomm.pipeline.sites import Fold, Site
from geomm.pipeline.summary import again, moment, spent, warned
from geomm.pipeline.texts import derived


@dataclass(frozen=True, slots=True)
class Searched:
    """What there is to report of the run of a contrastive recipe."""

    config: RunConfig
    """The recipe."""
    sites: Sequence[Site]
    """Places with their imagery."""
    folds: Sequence[Fold]
    """Ways of keeping training and test apart."""
    directions: Sequence[Direction]
    """How well each side finds another."""
    losses: Sequence[Sequence[float]]
    """Of every training."""
    answers: Mapping[str, Path]
    """Query to the page that answers it."""
    chips: int
    """Chips in the index."""
    notes: Notes = field(default_factory=Notes)
    """What is known of the run itself."""


def write_search_report(out: Path, run: Searched) -> Path:
    """Write ``report.html``, ``search.json`` and the pictures; the same run gives the same bytes.

    Returns:
        Path of the page.
    """
    about: dict[str, Any] = {
        **made_with(run.config, run.notes),
        "recipe": run.config.name,
        "derived_captions": derived(run.config),
        "directions": [d.facts() for d in run.directions],
        "chips": run.chips,
        "inputs": input_facts(run.sites),
    }
    pictures = _charts(run)
    folder = out / "report"
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in pictures.items():
        (folder / f"{name}.png").write_bytes(one.light)
    more = " Hashes are shortened; a click marks the whole."
    return write_page(out, run.config.name, _body(run, about, pictures, out), {}, {"search.json": about}, more=more)


def _charts(run: Searched) -> dict[str, Chart]:
    found = {d.name: d.recall[min(d.recall)] for d in run.directions}
    first = min(min(d.recall) for d in run.directions) if run.directions else 1
    label = f"R@{first} on test chips (95 %)"
    drawings = {"training": drawn(lambda theme: charts.curves({"all": run.losses}, theme=theme), "Training loss")}
    if found:
        drawings["recall"] = drawn(
            lambda theme: charts.intervals(found, label, theme=theme), "Recall of every direction"
        )
    return drawings


def _body(run: Searched, about: Mapping[str, Any], pictures: Mapping[str, Chart], out: Path) -> str:
    finds = _directions(run) + (pictures["recall"].html if "recall" in pictures else "")
    maps = "".join(
        f"<figure>{split_map(s, run.folds[0].splits[s.name])}<figcaption><b>{text(s.name)}</b></figcaption></figure>"
        for s in run.sites[:12]
        if len(run.sites) > 1 and len(run.folds[0].splits[s.name].names) > 1
    )
    inputs = inputs_table(about["inputs"]) + (f'<div class="looks">{maps}</div>' if maps else "")
    return (
        f"{_top(run, about)}"
        f"{section('What the words found', _answers(run, out), name='answers')}"
        f"{section('How well each side finds another', finds, name='finds')}"
        f"{section('What went in', inputs, name='inputs')}"
        f"{section('What was warned of', warned(run.notes), name='warnings')}"
        f"{section('Training', pictures['training'].html, name='training')}"
        f"{section('Where the time went', spent(run.notes), name='times')}"
        f"{section('The same again', again(run.config, run.notes, about), name='again')}"
    )


def _top(run: Searched, about: Mapping[str, Any]) -> str:
    config = run.config
    items = len({(s.name, c.id) for s in run.sites for c in s.scenes})
    whole = next((d for d in run.directions if d.name.startswith("text")), None)
    figures = [(f"{run.chips:,}", "chips in the index"), (f"{len(run.answers)}", "queries answered")]
    if whole is not None:
        figures += [(f"{v.value:.3f}", f"R@{k}, {text(whole.name)}") for k, v in whole.recall.items()]
    chips = [
        f"{moment(run.notes.started)}, {duration(sum(run.notes.clock.seconds.values()))}",
        f"{len(run.sites)} place{'s' if len(run.sites) > 1 else ''}, {items} item{'s' if items > 1 else ''}",
        *recipe_facts(config, about["recipe_sha256"]),
        f"captions {'derived, not written by people' if derived(config) else 'written by people'}",
    ]
    lead = f'<p class="lead">{text(config.description, WORDS)}</p>'
    beside = places_map(run.sites, run.folds)
    return header("Run of a search", text(config.name), lead + tiles(figures) + facts(chips), beside=beside)


def _answers(run: Searched, out: Path) -> str:
    rows = [
        [text(words), f'<a href="{text(page.relative_to(out).as_posix(), 200)}">{text(page.name)}</a>',
         code(page.with_suffix(".geojson").name)]
        for words, page in run.answers.items()
    ]  # fmt: skip
    ask = f"<p>More may be asked: {code('geomm search index', 60)}, and the words.</p>"
    return (table(["Words", "Page", "For a GIS"], rows) if rows else "") + ask


def _directions(run: Searched) -> str:
    depths = sorted({k for d in run.directions for k in d.recall})
    head = ["Direction", *(f"R@{k}" for k in depths), "Median rank", "Queries", "To choose from"]
    rows = [
        [
            text(d.name),
            *(str(d.recall[k]) if k in d.recall else "-" for k in depths),
            f"{np.mean([r.median_rank for r in d.ranked]):.1f}",
            f"{d.ranked[0].queries:,}",
            f"{d.ranked[0].rows:,}",
        ]
        for d in run.directions
    ]
    said = (
        "<p>Test chips only. Whatever has the same text counts as found; the intervals draw places and seeds anew. In "
        "search.json stand the figures where one chip only counts, and the most that a perfect model could reach.</p>"
    )
    return said + table(head, rows, figures=len(head) - 1)
