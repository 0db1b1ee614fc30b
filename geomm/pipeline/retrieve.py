"""A recipe of the contrastive task, from the catalog to answers: train, judge, index, ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomm.cards import card, facts, table
from geomm.config import RunConfig
from geomm.errors import OutputError
from geomm.pipeline.clock import Clock, Notes, noted
from geomm.pipeline.compare import fit_everywhere
from geomm.pipeline.grounding import slug
from geomm.pipeline.indexing import claim
from geomm.pipeline.judging import Direction, judge, sides_of
from geomm.pipeline.learn import Variant, check, test_chips, train_one
from geomm.pipeline.recipe import contract_of
from geomm.pipeline.searched import Searched, write_search_report
from geomm.pipeline.searching import Question, ask, leave
from geomm.pipeline.sites import Fold, Site, load_sites, make_folds
from geomm.pipeline.sources import local_folder
from geomm.pipeline.texts import derived, teller_of, text_identity
from geomm.retrieval import Index
from geomm.retrieval.build import IndexSettings, JobNotes, index_cube
from geomm.retrieval.embedder import Embedder
from geomm.types import Progress, Window, silent

if TYPE_CHECKING:
    from geomm.package import ModelPackage
    from geomm.train import Fitted


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a run left behind."""

    package: Path
    """Folder of the model."""
    index: Path
    """Folder of the index."""
    directions: tuple[Direction, ...]
    """How well it finds, on test chips."""
    answers: Mapping[str, Path]
    """Query to the page that answers it."""
    tables: Mapping[str, Any]
    """Query to its hits."""
    report: Path
    """HTML report."""

    def _repr_html_(self) -> str:
        depths = sorted({k for d in self.directions for k in d.recall})
        alone = f"one chip counts: R@{min(depths, default=1)}"
        head = ["who finds whom", *(f"R@{k}" for k in depths), alone, "at most", "test chips"]
        rows = []
        for d in self.directions:
            ranked = d.ranked[0]
            one = ["-", "-"]
            if ranked.ceiling is not None:
                one = [f"{r[min(depths)]:.3f}" for r in (ranked.recall, ranked.ceiling)]
            rows.append([d.name, *(str(d.recall[k]) for k in depths), *one, f"{ranked.queries:,}"])
        paths = {"model": str(self.package), "index": str(self.index), "report": str(self.report)}
        return card(self.index.parent.name, [table(head, rows, most=40), facts(paths)], kind="run of a search")


def run_search(config: RunConfig, out: str | Path, *, progress: Progress = silent, command: str = "") -> SearchResult:
    """Run a recipe: train a dual encoder, judge it on chips that it never saw, index everything, answer its queries.

    Args:
        config: a recipe of the contrastive task.
        out: folder that does not exist, or is empty: the model, the index, and for each query a page and a GeoJSON.
        progress: told how far it is.
        command: command line that does the same, for the report.

    Raises:
        OutputError: the folder holds something.
        GeommError: any of the steps.
    """
    check(config, tasks=("contrastive",))
    target, notes = local_folder(out), Notes(command)
    clock = notes.clock
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError("the folder holds something", where=str(out), fix="name another, or remove this one")
    with noted(notes):
        sites = load_sites(config, target)
        folds = make_folds(config, sites)
    clock.lap("read")
    fitted, directions, losses = _trained(config, sites, folds, progress, clock)
    package = _package(config, sites, fitted, directions, target)
    clock.lap("write")
    index = _index(config, sites, package, fitted, target / "index", progress)
    clock.lap("index")
    answers, tables = {}, {}
    for words in config.queries:
        question = Question(words, k=min(10, len(index)))
        page, hits = target / "answers" / f"{slug(words)}.html", ask(index, question)
        leave(index, question, hits, page, [page.with_suffix(".geojson")])
        answers[words], tables[words] = page, hits
    clock.lap("answer")
    found = Searched(config, sites, folds, directions, losses, answers, len(index), notes)
    report = write_search_report(target, found)
    return SearchResult(package.path, target / "index", directions, answers, tables, report)


def _trained(
    config: RunConfig, sites: list[Site], folds: list[Fold], progress: Progress, clock: Clock
) -> tuple[Fitted, tuple[Direction, ...], Sequence[Sequence[float]]]:
    """Train once per fold and seed; return the model for use, how well they find, and the losses."""
    variant, found, losses, fitted = Variant(tuple(config.modalities), config.model.fusion), [], [], None
    for f, fold in enumerate(folds):
        for s, seed in enumerate(config.train.seeds):
            done = (f * len(config.train.seeds) + s) * config.train.steps

            def told(step: int, _loss: float, done: int = done) -> None:
                progress("train", done + step, len(folds) * len(config.train.seeds) * config.train.steps)

            model = train_one(config, sites, fold, variant, seed=seed, on_step=told)
            clock.lap("train")
            found.append(sides_of(model, test_chips(config, sites, fold, variant.modalities), config))
            losses.append(model.losses)
            fitted = fitted or model
            clock.lap("test")
    directions = judge(found, len(config.train.seeds))
    clock.lap("test")
    if len(folds) > 1:
        fitted = fit_everywhere(config, sites, progress)
        clock.lap("train")
    assert fitted is not None
    return fitted, directions, losses


def _package(
    config: RunConfig, sites: list[Site], fitted: Fitted, directions: Sequence[Direction], target: Path
) -> ModelPackage:
    from geomm.package import save_package

    metrics = {d.name: {f"R@{k}": str(v) for k, v in d.recall.items()} for d in directions}
    said = "derived, not written by people" if derived(config) else "written by people"
    return save_package(
        fitted,
        contract_of(config, sites),
        target / "model",
        name=config.name,
        metrics={"test recall, same text counts": metrics, "captions": said},
    )


def _index(
    config: RunConfig, sites: list[Site], package: ModelPackage, fitted: Fitted, folder: Path, progress: Progress
) -> Index:
    from shapely.geometry import shape

    embedder = Embedder(fitted)
    index = claim(package, folder, embedder)
    with index.writing():
        for site in sites:
            tell = teller_of(config, site)

            def text(window: Window, tell: Any = tell) -> tuple[str, bool]:
                return tell(window), derived(config)

            def told(done: int, of: int, name: str = site.name) -> None:
                progress(f"index {name}", done, of)

            settings = IndexSettings(config.chips.size)
            about = JobNotes(text, text_identity(config), {s.id: (s.href, shape(s.footprint)) for s in site.scenes})
            index_cube(index, embedder, site.cube, job=site.name, settings=settings, about=about, on_chips=told)
    return index


def lines(result: SearchResult) -> Iterator[str]:
    """Yield what a run found, for a terminal: recall with its intervals and sizes, then every query's hits."""
    from geomm.pipeline.gallery import hits_table

    for direction in result.directions:
        first = direction.ranked[0]
        told = ", ".join(f"R@{k} {v}" for k, v in direction.recall.items())
        best = (
            ""
            if first.ceiling is None
            else f"; one chip only counts: R@1 {first.recall[1]:.3f} of at most {first.ceiling[1]:.3f}"
        )
        yield f"{direction.name:24} {told}; {first.queries} test chips, {first.rows} to choose from{best}"
    for words, hits in result.tables.items():
        yield f'\n"{words}"'
        yield from ("  " + "  ".join(row) for row in hits_table(hits)[:3])
        yield f"  {result.answers[words]}"
