"""The whole path for one recipe: catalog, cubes, chips, models, comparison, maps, report."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geomm import cards
from geomm.config import RunConfig, recipe_of
from geomm.cube import geobox_of, ground_size
from geomm.errors import OutputError
from geomm.export import Product
from geomm.pipeline.apply import map_cube
from geomm.pipeline.clock import Notes, noted
from geomm.pipeline.compare import FUSED, Row, compare, fit_everywhere, variants
from geomm.pipeline.learn import check
from geomm.pipeline.sites import Site, load_sites, make_folds, node_of
from geomm.pipeline.sources import local_folder
from geomm.types import Modality, Progress, silent

if TYPE_CHECKING:
    from geomm.package import InputContract, ModelPackage
    from geomm.train import Fitted


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left behind."""

    config: RunConfig
    """The recipe."""
    rows: tuple[Row, ...]
    """The comparison."""
    package: Path
    """Folder of the fused model."""
    products: Mapping[str, Product]
    """Site to product."""
    report: Path
    """HTML report."""

    def _repr_html_(self) -> str:
        from geomm.pipeline.results import table

        head, *rows = table(self.rows, [c.name for c in self.config.classes()])
        files = {
            f"{site} {layer}": str(p) for site, product in self.products.items() for layer, p in product.files.items()
        }
        paths = {"report": str(self.report), "model": str(self.package), **files}
        return cards.card(self.config.name, [cards.table(head, rows), cards.facts(paths)], kind="run of a recipe")


def run(config: RunConfig, out: str | Path, *, progress: Progress = silent, command: str = "") -> RunResult:
    """Run a recipe: train every modality alone and fused, compare them, map every site with the fused model.

    Args:
        config: see :func:`geomm.load_recipe`.
        out: folder for maps, model package and report.
        progress: told how far it is.
        command: command line that does the same, for the report.

    Raises:
        GeommError: any of the steps; products appear only when they are whole.
    """
    from geomm.pipeline.report import write_report
    from geomm.pipeline.results import Finished

    config = recipe_of(config, RunConfig)
    check(config)
    target, notes = local_folder(out), Notes(command)
    clock = notes.clock
    rows, trained = [], {}
    with _nothing_left_on_failure(target):
        with noted(notes):
            sites = load_sites(config, target)
            folds = make_folds(config, sites)
        clock.lap("read")
        for fold in folds:
            for name, variant in variants(config).items():
                row, models = compare(config, sites, fold, name, variant, progress, clock=clock)
                rows.append(row)
                trained[fold.name, name] = models
        fitted = trained[folds[0].name, FUSED][0] if len(folds) == 1 else fit_everywhere(config, sites, progress)
        clock.lap("train")
    package = _package(config, sites, fitted, rows, target)
    clock.lap("write")
    products = {}
    for site in sites:
        name = config.name if len(sites) == 1 else f"{config.name}-{site.name}"
        told = clock.during("predict", progress)
        products[site.name] = map_cube([package], site.cube, site.scenes, target, name, told)
        clock.lap("write")
    losses = {k: [f.losses for f in v] for k, v in trained.items()}
    report = write_report(target, Finished(config, sites, folds, rows, products, losses, notes))
    return RunResult(config, tuple(rows), package.path, products, report)


def _package(config: RunConfig, sites: list[Site], fitted: Fitted, rows: list[Row], target: Path) -> ModelPackage:
    from geomm.package import save_package

    metrics = {r.fold: {v.variant: str(v.interval()) for v in rows if v.fold == r.fold} for r in rows}
    return save_package(
        fitted, contract_of(config, sites), target / "model", name=config.name, metrics={"test mean IoU": metrics}
    )


def contract_of(config: RunConfig, sites: list[Site]) -> InputContract:
    """Return the input contract of the recipe's model."""
    from geomm.package import InputContract

    nodes = {n: node_of(sites, n) for n in config.modalities}
    return InputContract(
        {
            n: Modality(m.sensor, tuple(str(b) for b in nodes[n]["band"].to_numpy()))
            for n, m in config.streams().items()
        },
        {n: node.attrs["units"] for n, node in nodes.items()},
        config.classes(),
        ground_size(geobox_of(sites[0].cube)),
        config.predict.size if config.task == "segmentation" else config.chips.size,
        config.predict.halo if config.task == "segmentation" else 0,
        required(config, sites),
    )


def required(config: RunConfig, sites: list[Site]) -> tuple[str, ...]:
    """Return the modalities that a model cannot do without: those that it never saw missing."""
    if config.train.modality_dropout > 0:
        return ()
    return tuple(n for n in config.modalities if all(n in s.cube.children for s in sites))


@contextmanager
def _nothing_left_on_failure(target: Path) -> Iterator[None]:
    """Remove the catalog and the folders that a run made, if it fails before there is anything worth keeping."""
    if target.exists() and not target.is_dir():
        raise OutputError(
            "the output is not a folder",
            where=str(target),
            fix="name a folder that does not exist yet: --out runs/NAME",
        )
    catalog = target / "catalog"
    fresh = [p for p in (target, *target.parents) if not p.exists()]
    made_catalog = not catalog.exists()
    try:
        yield
    except BaseException:
        if made_catalog:
            shutil.rmtree(catalog, ignore_errors=True)
        for path in fresh:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        raise
