"""Pages of recipes: what they share, and the page of an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm import charts
from geomm._version import __version__
from geomm.charts import DARK, LIGHT, Theme
from geomm.config import RunConfig
from geomm.metrics import Interval
from geomm.pages import chart, digest, facts, header, page, section, table, text, tiles
from geomm.pages.style import STYLE as BASE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from geomm.pipeline.assess import Assessment

WORDS = 2000
"""Most characters of a description."""
STYLE = (
    BASE
    + "".join(
        f".dot.{kind}{{background:var(--{color})}}.map .{kind}{{--c:var(--{color})}}"
        for kind, color in {"train": "blue", "test": "amber", "validation": "violet", "site": "blue"}.items()
    )
    + "".join(
        f".{kind}{{background:var(--{color})}}"
        for kind, color in {"t-read": "blue", "t-train": "amber", "t-test": "violet", "t-predict": "green"}.items()
    )
    + ".t-write{background:var(--grey)}.t-index{background:var(--red)}.t-answer{background:var(--pale)}"
    + ".map .scene{--c:var(--soft);fill-opacity:.08;stroke-dasharray:5 3}.dot.scene{border:1px dashed var(--soft)}"
    + ".swatch{border:1px solid var(--soft)}"
)
"""The style sheet of all pages, with the colours of the parts of a split and of the work."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart for a page and for a file."""

    light: bytes
    """PNG for a light page, and for whoever wants a picture."""
    dark: bytes
    """PNG for a dark page."""
    about: str
    """What it shows, in words."""

    @property
    def html(self) -> str:
        """The chart in a page, in its colours."""
        return chart(self.light, self.dark, text(self.about))


def drawn(draw: Callable[[Theme], Figure], about: str) -> Chart:
    """Draw a chart for light and for dark pages.

    Args:
        draw: a chart of :mod:`geomm.charts` in a theme.
        about: what it shows, for those who do not see it.
    """
    return Chart(charts.png(draw(LIGHT)), charts.png(draw(DARK)), about)


def write_assessment(
    folder: Path, config: RunConfig, found: Sequence[Assessment], temperatures: Sequence[float]
) -> Path:
    """Write ``report.html``, ``evaluation.json`` and the pictures of an evaluation.

    Args:
        folder: made if it is not there; what is in it is replaced.
        config: recipe of the run.
        found: one for every subset of the modalities, all of them last.
        temperatures: of the models, seed by seed.

    Returns:
        Path of the page.
    """
    whole, subsets = found[-1], [a.facts() for a in found]
    about = {
        "geomm": __version__,
        "recipe": config.name,
        "classes": [c.name for c in config.classes()],
        "temperatures": list(temperatures),
        "subsets": subsets,
    }
    label = "mean IoU on test blocks (95 %)"
    bars = {
        a.modalities: Interval(f["mean_iou"]["value"], *f["mean_iou"]["interval"])
        for a, f in zip(found, subsets, strict=True)
    }
    pictures = {
        "reliability": drawn(
            lambda theme: charts.reliability(whole.reliability, theme=theme),
            "How often predictions of a confidence are right, a line per seed",
        ),
        "subsets": drawn(lambda theme: charts.missing(bars, label, theme=theme), "What is left of modalities"),
    }
    all_of = subsets[-1]
    top = header(
        "Evaluation",
        text(config.name),
        f'<p class="lead">{text(config.description, WORDS)}</p>'
        + tiles(
            [
                (f"{all_of['mean_iou']['value']:.3f}", "mean IoU"),
                (f"{all_of['mean_f1']['value']:.3f}", "mean F1"),
                (f"{all_of['accuracy']['value']:.3f}", "accuracy"),
                (f"{all_of['ece']:.3f}", "calibration error"),
            ]
        )
        + facts(
            [
                f"{len(whole.counts)} seeds",
                f"{whole.counts.shape[1]} test blocks",
                f"{all_of['pixels']:,} test pixels",
                " + ".join(map(text, whole.modalities)),
            ]
        ),
    )
    sure = _sureness(temperatures) + pictures["reliability"].html
    body = (
        f"{top}{section('When modalities are missing', _subsets(subsets) + pictures['subsets'].html, name='subsets')}"
        f"{section('By class, all modalities', _classes(config, all_of), name='classes')}"
        f"{section('Is it as sure as it is right?', sure, name='calibration')}"
    )
    return write_page(folder, f"{config.name}: evaluation", body, pictures, {"evaluation.json": about})


def write_page(
    folder: Path, title: str, body: str, pictures: Mapping[str, Chart], content: Mapping[str, Any], *, more: str = ""
) -> Path:
    """Write ``report.html``, pictures and JSON files.

    Args:
        folder: made if it is not there.
        title: of the window.
        body: HTML.
        pictures: name to chart.
        content: name of a JSON file to what it holds.
        more: said at the end, HTML.

    Returns:
        Path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in pictures.items():
        (folder / f"{name}.png").write_bytes(one.light)
    for name, about in content.items():
        (folder / name).write_text(json.dumps(about, indent=2))
    target = folder / "report.html"
    said = f"geomm {text(__version__)}. Everything is in {', '.join(map(text, content))}.{more}"
    target.write_bytes(page(f"{text(title)}: geomm", body, footer=said, style=STYLE).encode(errors="replace"))
    return target


def recipe_facts(config: RunConfig, sha256: str) -> list[str]:
    """Return what is short to say of a recipe, HTML."""
    seeds = len(config.train.seeds)
    return [
        f"{seeds} seed{'s' if seeds > 1 else ''}, {config.train.steps:,} steps",
        f"encoder {text(config.model.encoder, 40)}",
        f"fusion {text(config.model.fusion, 30)}",
        f"recipe {digest(sha256)}",
    ]


def interval_text(found: Mapping[str, Any]) -> str:
    """Return a figure with its interval, as it stands in a JSON file."""
    low, high = found["interval"]
    return f"{found['value']:.3f} [{low:.3f}, {high:.3f}]"


def number(value: float | None) -> str:
    """Return a share with three digits, a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def _subsets(subsets: Sequence[Mapping[str, Any]]) -> str:
    head = ["Modalities", "Mean IoU", "Mean F1", "Accuracy", "Calibration error", "Log-loss, nats"]
    rows = [
        [
            " + ".join(map(text, f["modalities"])),
            *(interval_text(f[name]) for name in ("mean_iou", "mean_f1", "accuracy")),
            f"{f['ece']:.3f}",
            f"{f['log_loss']:.3f}",
        ]
        for f in subsets
    ]
    return "<p>The intervals draw test blocks and seeds anew.</p>" + table(head, rows, figures=5)


def _classes(config: RunConfig, found: Mapping[str, Any]) -> str:
    rows = [
        [text(c.name), number(i), number(f)]
        for c, i, f in zip(config.classes(), found["iou_by_class"], found["f1_by_class"], strict=True)
    ]
    return table(["Class", "IoU", "F1"], rows, figures=2)


def _sureness(temperatures: Sequence[float]) -> str:
    divided = ", ".join(f"{t:.2f}" for t in temperatures)
    return (
        f"<p>Probabilities are after division of the logits by {divided}, fitted on validation blocks where the recipe "
        "has some. On the dashed line, predictions are right as often as they say; each point is one of 15 bins of "
        "equal mass.</p>"
    )
