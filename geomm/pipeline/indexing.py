"""From a catalog to an index: every scene that a model wants, one after the other, stopped and gone on with."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geomm.annotations import Annotations
from geomm.cube import close_files, geobox_of
from geomm.errors import ConfigError, ContractError, PackageError
from geomm.package import check_cube, load_package
from geomm.pipeline.jobs import Job, find_scenes_of
from geomm.pipeline.sources import local_folder
from geomm.retrieval import Index
from geomm.retrieval.build import IndexSettings, JobNotes, index_cube
from geomm.retrieval.embedder import Embedder
from geomm.retrieval.find import ENOUGH
from geomm.retrieval.footprints import footprints
from geomm.retrieval.manifest import MODEL
from geomm.types import BBox, Progress, Window, silent
from geomm.whole import whole_folder

if TYPE_CHECKING:
    import xarray as xr

    from geomm.package import ModelPackage


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How a source is indexed."""

    settings: IndexSettings | None = None
    """Of the chips; default those of the size that the model was trained with."""
    texts: Annotations | None = None
    """Kept with the chips, to be shown and to judge by; the vectors do not depend on them."""
    within: float = 1.0
    """Greatest distance in time of what different sensors saw of a chip, in days."""
    device: str = "cpu"
    """Torch device."""

    def __post_init__(self) -> None:
        if not isinstance(self.within, (int, float)) or not self.within >= 0:
            raise ConfigError(
                "scenes cannot be less than 0 days apart",
                where=f"within {self.within!r}",
                fix="give how many days may lie between what the sensors saw, such as 1",
            )


LISTED = 0.8
"""Share of the rows below which the lists for approximate search are made anew; the others are scanned besides."""


def index_source(
    package: ModelPackage,
    source: str | Path,
    out: str | Path,
    *,
    aoi: BBox | None = None,
    datetime: str | None = None,
    options: IndexOptions | None = None,
    progress: Progress = silent,
) -> Index:
    """Index every scene of a source; what is in the index already stays.

    The memory that it takes depends on the chips and the batch, not on the source. Killed at any time, the same call
    goes on where it was; called again for a catalog that has grown, or for another area, it appends what is new. A
    scene whose files, metadata or neighbours in time have changed is indexed anew.

    Args:
        package: an opened model package of the contrastive task.
        source: anything that :func:`geomm.open_catalog` opens, or a folder of GeoTIFFs named ``<item>_<band>.tif``.
        out: folder of the index; made if it is not there.
        aoi: west, south, east, north in degrees: chips that touch it are indexed, on the grid of their scene.
        datetime: instant or interval; for a folder of GeoTIFFs without dates, their date.
        options: default :class:`IndexOptions`.
        progress: told how far it is.

    Returns:
        The index, with the model as its embedder.

    Raises:
        ContractError: the source lacks what the model needs, or the model is of another task.
        CatalogError: the search finds nothing.
        PackageError: the index holds vectors of another model.
        ConfigError: the device is not here, or no chip has enough valid pixels.
    """
    from geomm.prediction.device import check_device

    options, folder = options or IndexOptions(), local_folder(out)
    if not hasattr(package, "contract"):
        fix = "write geomm.index_source(geomm.load_package(MODEL), CATALOG, OUT)"
        raise ConfigError("the model comes first, then the imagery", where=repr(package)[:80], fix=fix)
    check_device(options.device)
    embedder = Embedder.of(package, device=options.device)
    jobs = find_scenes_of(package, source, aoi=aoi, datetime=datetime, within=options.within)
    jobs = [j for j in jobs if _complete(j, package)]
    if not jobs:
        raise ContractError(
            "no scene has all that the model needs",
            where=str(source),
            why=f"it needs {', '.join(package.contract.required)} within {options.within:g} days of each other",
            fix="allow more days between the sensors",
        )
    settings = options.settings or IndexSettings(package.contract.size)
    index = claim(package, folder, embedder)
    with index.writing():
        for number, job in enumerate(jobs):

            def told(done: int, of: int, number: int = number) -> None:
                progress("index chips", number * of + done, len(jobs) * of)

            _add(index, embedder, package, job, _Wanted(settings, options.texts, aoi, told))
        _list_rows(index)
    if not len(index):
        raise ConfigError(
            "no chip has enough valid pixels",
            where=str(source),
            why=f"chips of {settings.size} x {settings.size} pixels that are valid to {settings.enough:.0%}",
            fix=f"choose smaller chips: --size {package.contract.size}, as the model was trained with, or less",
        )
    return index


def index_job(
    package: ModelPackage,
    job: Job,
    out: str | Path,
    *,
    settings: IndexSettings | None = None,
    device: str = "cpu",
    on_chips: Callable[[int, int], None] | None = None,
) -> int:
    """Index one job; see :func:`index_source`.

    Returns:
        Number of rows that the index has of the job.
    """
    embedder = Embedder.of(package, device=device)
    index = claim(package, Path(out), embedder)
    with index.writing():
        _add(index, embedder, package, job, _Wanted(settings or IndexSettings(package.contract.size), told=on_chips))
        _list_rows(index)
    return int((index.rows(index.numbers)["job"] == job.name).sum())


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is indexed of a job."""

    settings: IndexSettings
    texts: Annotations | None = None
    aoi: BBox | None = None
    told: Callable[[int, int], None] | None = None


def _add(index: Index, embedder: Embedder, package: ModelPackage, job: Job, wanted: _Wanted) -> None:
    cube = job.cube(package)
    check_cube(package.contract, cube)
    about = _about(job, cube, wanted.texts, wanted.aoi)
    try:
        index_cube(index, embedder, cube, job=job.name, settings=wanted.settings, about=about, on_chips=wanted.told)
    finally:
        close_files(cube)


def _list_rows(index: Index) -> None:
    if len(index) > ENOUGH and index.listed < LISTED * len(index):
        index.build_ann()


def _complete(job: Job, package: ModelPackage) -> bool:
    here = {s.sensor for s in job.scenes}
    return all(package.contract.modalities[n].sensor in here for n in package.contract.required)


def _about(job: Job, cube: xr.DataTree, texts: Annotations | None, aoi: BBox | None) -> JobNotes:
    """Gather what is known of a job beyond its pixels."""
    from shapely.geometry import shape

    kept = {s.id: s.href if "://" in s.href or Path(s.href).is_file() else s.id for s in job.scenes}
    files = (b.href.partition("?")[0] for s in job.scenes for b in s.bands.values())  # a signature is not the file
    return JobNotes(
        _teller(texts, cube, f"{job.scenes[0].time:%Y-%m-%d}") if texts is not None else None,
        "" if texts is None else hashlib.sha256(texts.table.to_json().encode()).hexdigest(),
        {s.id: (kept[s.id], shape(s.footprint)) for s in job.scenes},
        (*files, *(f"{s.id} {s.time.isoformat()}" for s in job.scenes)),
        None if aoi is None else _within(cube, aoi),
    )


def _within(cube: xr.DataTree, aoi: BBox) -> Callable[[Window], bool]:
    """Return what tells whether a window touches an area."""
    import shapely

    geobox: Any = geobox_of(cube)
    west, south, east, north = aoi
    parts = [(west, east)] if west <= east else [(west, 180.0), (-180.0, east)]
    area = shapely.union_all([shapely.box(w, south, e, north) for w, e in parts])

    def touches(window: Window) -> bool:
        bounds = np.array([geobox[window.slices].boundingbox.bbox])
        return bool(footprints(bounds, str(geobox.crs))[0].intersects(area))

    return touches


def open_index(folder: str | Path, *, model: str | Path | None = None) -> Index:
    """Open an index with the model that its words and pictures are compared by.

    Args:
        folder: of the index.
        model: package of the model, if the one that the index keeps is not to be used.

    Raises:
        PackageError: it is no index, or the model is not the one of its vectors.
    """
    index = Index.open(folder)
    place = Path(model) if model is not None else Path(folder) / MODEL
    if model is None and not place.is_dir():
        return index
    package = load_package(place)
    _check_model(index, package)
    index.embedder = Embedder.of(package)
    return index


def claim(package: ModelPackage, folder: Path, embedder: Embedder) -> Index:
    """Open an index of this model, or make one and put the model into it.

    Raises:
        PackageError: it holds vectors of another model.
        OutputError: the folder holds something else, or cannot be written.
    """
    if not (folder / "index.json").is_file():
        Index.create(folder, embedder.dimension, about={"model_sha256": package.sha256, "model": package.path.name})
    index = Index.open(folder)
    _check_model(index, package)
    if not (folder / MODEL).is_dir():
        with whole_folder(folder / MODEL) as aside:
            shutil.copytree(package.path, aside, dirs_exist_ok=True)
    index.embedder = embedder
    return index


def _check_model(index: Index, package: ModelPackage) -> None:
    made_by = index.about.get("model_sha256")
    if made_by != package.sha256:
        raise PackageError(
            "the index holds vectors of another model",
            where=str(index.folder),
            why=f"made by {str(made_by)[:12]}, the model is {package.sha256[:12]}",
            fix="search with the model that it was made with, or make another index",
        )


def _teller(texts: Annotations, cube: xr.DataTree, day: str) -> Callable[[Window], tuple[str, bool]]:
    geobox: Any = geobox_of(cube)

    def tell(window: Window) -> tuple[str, bool]:
        notes = texts.find(geobox[window.slices], day)
        return (notes[0].text, notes[0].derived) if notes else ("", False)

    return tell
