"""The ablation of a recipe: every modality alone and all of them under fusions of every kind, one budget for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomm import charts
from geomm._version import __version__
from geomm.config import RunConfig
from geomm.errors import ConfigError
from geomm.metrics import Interval, block_bootstrap, paired_bootstrap
from geomm.models.fusion import find_fusion
from geomm.pages import facts, header, section, table, text
from geomm.pipeline.compare import Row, ablations, compare
from geomm.pipeline.learn import check
from geomm.pipeline.pages import WORDS, Chart, drawn, interval_text, write_page
from geomm.pipeline.sites import load_sites, make_folds
from geomm.pipeline.sources import local_folder
from geomm.types import Progress, silent

FUSIONS = ("early_concat", "concat", "lmf", "attention", "late_mean", "late_product", "late_stack")
"""What is compared unless something else is asked for: some of every stage."""


def ablate(
    config: RunConfig, out: str | Path, *, fusions: Sequence[str] = FUSIONS, progress: Progress = silent
) -> Path:
    """Train and count every modality alone and every fusion, with the same encoders, chips, steps and seeds.

    Args:
        config: see :func:`geomm.load_recipe`; its own fusion is not used.
        out: folder of ``report.html``, ``ablation.json`` and pictures.
        fusions: names of :mod:`geomm.models.fusion`.
        progress: told how far it is.

    Returns:
        The page.

    Raises:
        UnknownNameError: a fusion that there is not; nothing is trained.
        ConfigError: no fusion, or a recipe that cannot be trained here.
        GeommError: any of the steps.
    """
    if not fusions:
        raise ConfigError("an ablation needs at least one fusion", fix="see geomm.models.fusion.FUSIONS")
    for name in fusions:
        find_fusion(name)
    check(config)
    folder = local_folder(out)
    sites = load_sites(config, folder)
    rows: dict[str, list[Row]] = {}
    losses: dict[str, list[Sequence[float]]] = {}
    for fold in make_folds(config, sites):
        for name, variant in ablations(config, fusions).items():
            row, models = compare(config, sites, fold, name, variant, progress)
            rows.setdefault(name, []).append(row)
            losses.setdefault(name, []).extend(m.losses for m in models)
    whole = {name: _joined(parts) for name, parts in rows.items()}
    return _write(folder, config, whole, losses)


def _joined(parts: Sequence[Row]) -> Row:
    """Put the test blocks of all folds side by side."""
    first = parts[0]
    reliability = tuple(sum(more, one) for one, *more in zip(*(p.reliability for p in parts), strict=True))
    counts = np.concatenate([p.counts for p in parts], 1)
    final = float(np.mean([p.final_loss for p in parts]))
    return Row("all", first.variant, first.modalities, counts, reliability, first.parameters, final)


def reading(config: RunConfig, rows: dict[str, Row], best_alone: str) -> list[str]:
    """Say what the modalities tell about the labels, in nats per pixel, as far as these models get it out.

    What a row tells is the entropy of the test labels minus its log-loss. Of two modalities, what both tell by
    themselves and together adds up to what each tells alone, what they share, and what only their combination tells
    (partial information decomposition, Williams and Beer 2010): the sum of the parts minus the whole is shared minus
    synergy.
    """
    labels = rows[best_alone].counts.sum((0, 1, 3))
    share = labels[labels > 0] / labels.sum()
    entropy = float(-(share * np.log(share)).sum())
    alone = {n: entropy - rows[n].log_loss for n in config.modalities}
    fused = {n: entropy - r.log_loss for n, r in rows.items() if n not in alone}
    middle = float(np.median(list(fused.values())))
    lines = [
        f"The labels hold {entropy:.3f} nats a pixel. Alone, "
        + ", ".join(f"{n} tells {v:.3f}" for n, v in alone.items())
        + f"; fused, {middle:.3f} (median over the fusions, {min(fused.values()):.3f} to {max(fused.values()):.3f})."
    ]
    if min(*alone.values(), middle) < -0.05 * entropy:
        warning = (
            "What tells less than nothing is a model that is surer than it is right: these do not carry over to the "
            "test places, and say nothing of what the modalities share."
        )
        return [*lines, warning]
    if len(alone) == 2:
        gap = sum(alone.values()) - middle
        kind = "mostly tell the same" if gap > 0 else "tell more together than the sum of what each tells"
        lines.append(f"Shared minus synergy is {gap:+.3f} nats: the modalities {kind}.")
    if len(alone) > 1:
        unique = {n: middle - max(v for m, v in alone.items() if m != n) for n in alone}
        lines.append(
            "Beyond the best of the others: " + ", ".join(f"{n} adds {v:+.3f}" for n, v in unique.items()) + "."
        )
    return lines


def _write(folder: Path, config: RunConfig, rows: dict[str, Row], losses: dict[str, list[Sequence[float]]]) -> Path:
    alone = list(config.modalities)
    best = max(alone, key=lambda n: float(np.mean(rows[n].seeds)))
    gains = {n: paired_bootstrap(r.counts, rows[best].counts) for n, r in rows.items() if n not in alone}
    found = {n: block_bootstrap(r.counts) for n, r in rows.items()}
    label = "mean IoU on test blocks (95 %)"
    about: dict[str, Any] = {
        "geomm": __version__,
        "recipe": config.model_dump(exclude={"root"}),
        "best_alone": best,
        "rows": {n: _facts(n, r, found[n], gains.get(n)) for n, r in rows.items()},
        "reading": reading(config, rows, best),
    }
    pictures = {
        "mean_iou": drawn(
            lambda theme: charts.intervals(found, label, marked=alone, theme=theme), "Mean IoU of every row"
        ),
        "training": drawn(lambda theme: charts.curves(losses, theme=theme), "Training loss of every row"),
    }
    blocks = rows[best].counts.shape[1]
    lost = [n for n, g in gains.items() if g.high < 0]
    won = [n for n, g in gains.items() if g.low > 0]
    verdict = (
        f"Better than {best} alone: {', '.join(won) or 'none'}. Worse: {', '.join(lost) or 'none'}. "
        "Counted are rows whose paired difference has a 95 % interval without 0"
        + ("." if blocks > 1 else "; with one test block that says nothing.")
    )
    about["verdict"] = verdict
    body = _body(config, about, pictures, blocks)
    return write_page(folder, f"{config.name}: ablation", body, pictures, {"ablation.json": about})


def _body(config: RunConfig, about: dict[str, Any], pictures: dict[str, Chart], blocks: int) -> str:
    seeds, steps = len(config.train.seeds), config.train.steps
    chips = [
        f"{seeds} seeds",
        f"{blocks} test blocks",
        f"{steps:,} steps each",
        f"encoder {text(config.model.encoder)}",
    ]
    lead = f'<p class="lead">{text(config.description, WORDS)}</p>'
    outcome = f'<div class="outcome idle">{text(about["verdict"], WORDS)}</div>'
    top = header("Ablation", text(config.name), lead + outcome + facts(chips))
    worth = (
        f"<p>Alone stand the modalities by themselves; the others see all of them. late_stack is trained three times, "
        "two of them on halves. The intervals draw blocks and seeds anew, of differences the same for both.</p>"
        f"{_table(about)}{pictures['mean_iou'].html}"
    )
    read = "".join(f"<p>{text(line, WORDS)}</p>" for line in about["reading"])
    training = "<p>Losses on training chips, averaged over 10 steps: mean over the seeds, and their range.</p>"
    return (
        f"{top}{section('Mean IoU', worth, name='worth')}{section('Unique, shared, synergy', read, name='reading')}"
        f"{section('Training', training + pictures['training'].html, name='training')}"
    )


def _table(about: dict[str, Any]) -> str:
    best = about["best_alone"]
    head = ["Row", "When", "Mean IoU", f"Against {text(best)} alone", "Log-loss", "ECE", "Training loss", "Parameters"]
    rows = [
        [
            text(n),
            "alone" if n in about["recipe"]["modalities"] else find_fusion(n).stage,
            interval_text({"value": r["mean_iou"], "interval": r["interval"]}),
            interval_text(r["gain"]) if r["gain"] else "-",
            f"{r['log_loss']:.3f}",
            f"{r['ece']:.3f}",
            f"{r['training_loss']:.3f}",
            f"{r['parameters']:,}",
        ]
        for n, r in about["rows"].items()
    ]
    return table(head, rows, figures=6)


def _facts(name: str, row: Row, found: Interval, gain: Interval | None) -> dict[str, Any]:
    return {
        "variant": name,
        "modalities": list(row.modalities),
        "mean_iou": found.value,
        "interval": [found.low, found.high],
        "by_seed": [float(v) for v in row.seeds],
        "by_class": [None if np.isnan(v) else float(v) for v in row.per_class],
        "gain": None if gain is None else {"value": gain.value, "interval": [gain.low, gain.high]},
        "log_loss": row.log_loss,
        "ece": row.ece,
        "training_loss": row.final_loss,
        "parameters": row.parameters,
    }
