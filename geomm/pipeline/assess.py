"""Judge a run: quality with intervals, calibration, and what is left when modalities are missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from geomm.config import RunConfig
from geomm.errors import PackageError
from geomm.metrics import Reliability, accuracy, block_bootstrap, f1, iou, mean_f1, mean_iou
from geomm.package import load_package
from geomm.pipeline.learn import check, task_of, test_sets
from geomm.pipeline.sites import load_sites, make_folds
from geomm.pipeline.train import RECIPE, check_identity
from geomm.types import Progress, silent


@dataclass(frozen=True, slots=True)
class Assessment:
    """What one subset of the modalities is worth to a run's models."""

    modalities: tuple[str, ...]
    """What they saw."""
    counts: np.ndarray
    """int64 ``(seeds, blocks, K, K)`` on the test pixels."""
    reliability: tuple[Reliability, ...]
    """Confidences and proper scores of each seed."""

    def facts(self) -> dict[str, Any]:
        """Return the figures, with 95 % intervals over test blocks and seeds."""
        out: dict[str, Any] = {"modalities": list(self.modalities)}
        for name, statistic in (("mean_iou", mean_iou), ("mean_f1", mean_f1), ("accuracy", accuracy)):
            found = block_bootstrap(self.counts, statistic=statistic)
            out[name] = {"value": found.value, "interval": [found.low, found.high]}
        total = self.counts.sum((0, 1))
        out["iou_by_class"] = [None if np.isnan(v) else float(v) for v in iou(total)]
        out["f1_by_class"] = [None if np.isnan(v) else float(v) for v in f1(total)]
        return out | {
            "ece": float(np.mean([r.ece() for r in self.reliability])),
            "log_loss": float(np.mean([r.log_loss / max(r.number, 1.0) for r in self.reliability])),
            "brier": float(np.mean([r.brier / max(r.number, 1.0) for r in self.reliability])),
            "pixels": int(self.reliability[0].number),
        }


def assess(folder: str | Path, *, progress: Progress = silent) -> Path:
    """Evaluate the models of a run on its test pixels, for every non-empty subset of the modalities.

    Args:
        folder: of the run, see :func:`geomm.pipeline.train.train`.
        progress: told how far it is.

    Returns:
        The page ``evaluation/report.html``; figures and pictures are beside it.

    Raises:
        PackageError: the folder is not a run, no seed of it is trained, or its imagery, labels or split are no longer
            those it was trained with.
        GeommError: the imagery cannot be read any more.
    """
    from geomm.pipeline.pages import write_assessment
    from geomm.train.evaluate import evaluate, subsets

    run = Path(folder)
    packages = sorted(run.glob("seed-*/model"))
    if not (run / RECIPE).is_file() or not packages:
        raise PackageError(
            "this is not a trained run", where=str(folder), fix="train one: geomm train RECIPE --out FOLDER"
        )
    config = RunConfig.model_validate(yaml.safe_load((run / RECIPE).read_text()))
    check(config)
    sites = load_sites(config, run)
    fold, task = make_folds(config, sites)[0], task_of(config)
    check_identity(config, sites, fold, run)
    fitted = [load_package(p).model() for p in packages]
    tests = test_sets(config, sites, fold, tuple(config.modalities))
    parts, found = subsets(list(config.modalities)), []
    for n, only in enumerate(parts):
        counts, reliability = [], []
        for k, model in enumerate(fitted):
            said = [evaluate(model, task, test, classes=len(config.labels.classes), only=only) for test in tests]
            counts.append(np.concatenate([s.counts for s in said]))
            reliability.append(sum((s.reliability for s in said), Reliability.empty()))
            progress("evaluate", n * len(fitted) + k + 1, len(parts) * len(fitted))
        found.append(Assessment(only, np.stack(counts), tuple(reliability)))
    return write_assessment(run / "evaluation", config, found, [m.temperature for m in fitted])
