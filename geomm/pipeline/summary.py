"""The page of a run, part by part."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import yaml

from geomm.config import RunConfig
from geomm.pages import (
    code,
    command,
    digest,
    duration,
    facts,
    header,
    image,
    listing,
    section,
    shares,
    table,
    text,
    tiles,
)
from geomm.pipeline.clock import Notes
from geomm.pipeline.compare import FUSED, Row
from geomm.pipeline.figures import Look
from geomm.pipeline.inputs import inputs_table, places_map, split_map
from geomm.pipeline.pages import WORDS, Chart, interval_text, number, recipe_facts
from geomm.pipeline.results import Finished, leaders, name_of, pays, recipe_hash, sureness, verdict

MOST = 12
"""Places of which pictures are shown."""


def summary(
    run: Finished, about: Mapping[str, Any], pictures: Mapping[str, Chart], looks: Mapping[str, Sequence[Look]]
) -> str:
    """Return the body of the page of a run.

    Args:
        run: what there is to report.
        about: what stands in ``run.json``.
        pictures: name to chart.
        looks: site to its pictures.
    """
    shown = {name: one.html for name, one in pictures.items()}
    worth = f"{_comparison(run, about)}{shown['comparison']}<h3>IoU by class</h3>{_classes(run)}"
    return (
        f"{_top(run)}"
        f"{section('What each modality is worth', worth, name='worth')}"
        f"{section('Is it as sure as it is right?', _calibration(run) + shown['reliability'], name='calibration')}"
        f"{section('What went in', inputs_table(about['inputs']), name='inputs')}"
        f"{section('What was warned of', warned(run.notes), name='warnings')}"
        f"{_places(run, looks)}"
        f"{section('Training', _TRAINING + shown['training'], name='training')}"
        f"{section('Where the time went', spent(run.notes), name='times')}"
        f"{section('What came out', _files(about), name='files')}"
        f"{section('The same again', again(run.config, run.notes, about), name='again')}"
    )


_TRAINING = (
    "<p>Losses on training chips, averaged over 10 steps: the mean over the seeds, and the band between the least and "
    "the greatest.</p>"
)


def _top(run: Finished) -> str:
    config, rows = run.config, run.rows
    fused = [r for r in rows if r.variant == FUSED]
    items = len({(s.name, c.id) for s in run.sites for c in s.scenes})
    chips = [
        f"{moment(run.notes.started)}, {duration(sum(run.notes.clock.seconds.values()))}",
        f"{len(run.sites)} place{'s' if len(run.sites) > 1 else ''}, {items} item{'s' if items > 1 else ''}",
        *recipe_facts(config, recipe_hash(config)),
    ]
    figures = [
        (f"{np.mean([r.seeds.mean() for r in fused]):.3f}", "mean IoU, fused"),
        (f"{np.mean([s.ece() for s in sureness(rows)]):.3f}", "calibration error"),
        (f"{sum(r.counts.shape[1] for r in fused):,}", "test blocks"),
        (f"{fused[0].parameters:,}", "parameters"),
    ]
    body = f'<p class="lead">{text(config.description, WORDS)}</p>{_outcome(run)}{tiles(figures)}{facts(chips)}'
    return header("Training run", text(config.name), body, beside=places_map(run.sites, run.folds))


def _outcome(run: Finished) -> str:
    """Say what each modality is worth, in a box whose colour says whether fusion paid."""
    names = [f.name for f in run.folds]
    compared = any(leaders(run.rows, n) for n in names)
    tone = "idle" if not compared else "good" if all(pays(run.rows, n) for n in names) else "wary"
    said = [
        f"<p>{'' if n == 'blocks' else f'Without {text(n)}: '}{escape(verdict(run.rows, n))}</p>" for n in names[:MOST]
    ]
    return f'<div class="outcome {tone}">{"".join(said)}</div>'


def _comparison(run: Finished, about: Mapping[str, Any]) -> str:
    split = run.config.split
    how = (
        f"Blocks of {split.block} pixels, no test pixel within {split.buffer} pixels of a training pixel."
        if split.kind == "blocks"
        else "One place is left out at a time, and tested on."
    )
    head = ["Variant", "Mean IoU", "± seeds", "Mean F1", "Accuracy", "Calibration error", "Log-loss, nats"]
    rows = [
        [
            text(name_of(row)),
            interval_text(told["mean_iou"]),
            f"{row.seeds.std(ddof=1):.3f}" if len(row.seeds) > 1 else "-",
            interval_text(told["mean_f1"]),
            interval_text(told["accuracy"]),
            f"{row.ece:.3f}",
            f"{row.log_loss:.3f}",
        ]
        for row, told in zip(run.rows, about["comparison"], strict=True)
    ]
    return f"<p>{how} The intervals draw test blocks and seeds anew (95 %).</p>{table(head, rows, figures=6)}"


def _classes(run: Finished) -> str:
    """Return the IoU of every class, mean over the folds; with the colour that it has on the maps."""
    variants: dict[str, list[Row]] = {}
    for row in run.rows:
        variants.setdefault(row.variant, []).append(row)
    means = {n: [_mean(values) for values in zip(*(r.per_class for r in mine), strict=True)] for n, mine in
             variants.items()}  # fmt: skip
    rows = [
        [_swatch(c.color, c.name), *(number(mean[k]) for mean in means.values())]
        for k, c in enumerate(run.config.classes())
    ]
    return table(["Class", *map(text, means)], rows, figures=len(means))


def _mean(values: Sequence[float]) -> float | None:
    known = [float(v) for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else None


def _swatch(color: str, name: str) -> str:
    return f'<i class="dot swatch" style="background:{escape(color)}"></i>{text(name)}'


def _calibration(run: Finished) -> str:
    temperature = " after the temperature that was fitted on validation blocks" if run.config.split.validation else ""
    return (
        f"<p>The fused models on the test pixels{temperature}, a line per seed. On the dashed line, predictions are "
        "right as often as they say; each point is one of 15 bins of equal mass.</p>"
    )


def _places(run: Finished, looks: Mapping[str, Sequence[Look]]) -> str:
    """Return pictures of every place, and where its blocks lie if that is not on the map at the top."""
    legend = "".join(f"<span>{_swatch(c.color, c.name)}</span>" for c in run.config.classes())
    found = ""
    for site in run.sites:
        if site.name not in looks:
            continue
        cells = "".join(
            f"<figure>{image(one.png, text(f'{one.title} of {site.name}'))}"
            f"<figcaption><b>{text(one.title)}</b>{text(one.caption)}</figcaption></figure>"
            for one in looks[site.name]
        )
        split = split_map(site, run.folds[0].splits[site.name]) if len(run.sites) > 1 else ""
        body = f'<p class="legend">{legend}</p><div class="looks">{cells}{split}</div>'
        found += section(f"Pictures of {text(site.name)}", body, name=f"place-{len(found)}")
    rest = len(run.sites) - len(looks)
    return found + (f'<p class="soft">Of {rest} more places there are maps, but no pictures here.</p>' if rest else "")


def warned(notes: Notes) -> str:
    """Return what was warned of while imagery and labels were read."""
    if not notes.warnings:
        return "<p>Nothing: everything that was found could be read.</p>"
    return f"<ul>{''.join(f'<li>{text(w, 400)}</li>' for w in notes.warnings)}</ul>"


def spent(notes: Notes) -> str:
    """Return where the time of a run went; nothing where nothing was measured."""
    seconds = notes.clock.seconds
    if not sum(seconds.values()):
        return ""
    rows = [[_WORK.get(k, text(k)), duration(v)] for k, v in seconds.items()]
    bar = shares([(f"t-{k}", text(k), v) for k, v in seconds.items()])
    return f"<p>{duration(sum(seconds.values()))} in all.</p>{bar}{table(['Work', 'Time'], rows, figures=1)}"


_WORK = {
    "read": "Find and read imagery and labels, draw the split",
    "train": "Train the models",
    "test": "Judge them on the test pixels",
    "predict": "Predict the maps, with reading and writing beside it",
    "write": "Write the model package, finish the maps",
    "index": "Embed and index the chips",
    "answer": "Answer the queries",
}


def again(config: RunConfig, notes: Notes, about: Mapping[str, Any]) -> str:
    """Return the command that does the same again, and what it was run with."""
    line = (
        f"<p>This command does the same again:</p>{command(notes.command)}"
        if notes.command
        else "<p>It was run from Python, with the recipe below.</p>"
    )
    recipe = yaml.safe_dump(config.model_dump(mode="json", exclude={"root"}), sort_keys=False, allow_unicode=True)
    versions = ", ".join(f"{text(n)} {text(v)}" for n, v in about["packages"].items())
    return (
        f"{line}<p>Python {text(about['python'])}, {versions}; recipe {digest(about['recipe_sha256'])}.</p>"
        f"<details><summary>The recipe, with all that it was overridden with</summary>"
        f"{listing(recipe)}</details>"
    )


def _files(about: Mapping[str, Any]) -> str:
    rows = [[text(site), ", ".join(code(p) for p in layers.values())] for site, layers in about["products"].items()]
    card = '<a href="model/README.md">card</a>'
    check = command(shlex.join(["geomm", "verify", "model"]))
    return (
        f"{table(['Place', 'Maps'], rows)}<p>The fused model is the package {code('model')}, with its {card}. In this "
        f"folder, this checks that it is whole:</p>{check}"
    )


def moment(started: str) -> str:
    """Return when a run started, HTML text."""
    return f"{text(started[:16].replace('T', ' '))} UTC"
