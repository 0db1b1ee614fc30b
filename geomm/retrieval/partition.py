"""Search over several indexes, each a part of one too large for a machine: each is asked by itself, the best remain."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geomm.retrieval.index import Index
from geomm.retrieval.manifest import folders_of
from geomm.retrieval.query import Method
from geomm.types import BBox


def search_partitions(
    folders: Sequence[str | Path | Index],
    query: np.ndarray,
    *,
    k: int = 10,
    aoi: BBox | Any | None = None,
    datetime: str | None = None,
    sensors: Sequence[str] = (),
    method: Method = "auto",
    client: Any | None = None,
) -> Any:  # fmt: skip
    """Find the rows most similar to a query in several indexes: what a search of the merged index finds.

    Args:
        folders: of the indexes, each on a path that the worker which is asked can read.
        query: vector ``(D,)``; embed a text first.
        k: number of hits, at least 1.
        aoi: place; see :meth:`geomm.retrieval.Index.search`.
        datetime: time.
        sensors: names.
        method: how to search each.
        client: ``dask.distributed`` client; without one, the scheduler that dask is set to.

    Returns:
        GeoDataFrame of at most ``k`` rows with the columns of the indexes, ``score``, and which ``folder`` and ``row``
        it is; best first, ties by the order of folders and by row.

    Raises:
        ConfigError: there is no folder, or a search is refused.
        PackageError: a folder holds no index, or a damaged one.
    """
    import dask
    import pandas as pd

    options = {"k": k, "aoi": aoi, "datetime": datetime, "sensors": tuple(sensors), "method": method}
    tasks = [dask.delayed(_search)(str(folder), np.asarray(query), options) for folder in folders_of(folders)]
    found = dask.compute(*tasks) if client is None else client.gather(client.compute(tasks))
    columns = dict.fromkeys(column for hits in found for column in hits.columns)
    full = [hits for hits in found if len(hits)] or [found[0].reindex(columns=list(columns))]
    joined = pd.concat(full, ignore_index=True)
    return joined.iloc[np.argsort(-joined["score"].to_numpy(), kind="stable")[:k]].reset_index(drop=True)


def _search(folder: str, query: np.ndarray, options: dict[str, Any]) -> Any:
    with warnings.catch_warnings():  # another part may have what this one lacks
        warnings.filterwarnings("ignore", "No row of the index")
        hits = Index.open(folder).search(query, **options)
    return hits.assign(folder=folder, row=hits.index.to_numpy(np.int64))
