"""Retrieval: an index of embedded places that answers a vector, a text or an image with the most similar places.

An index is a folder that grows by batches and survives whatever kills its writer. Exact search reads a byte for each
number of a vector and proves that it missed nothing; approximate search looks into a few lists of similar rows.
"""

from __future__ import annotations

from geomm.retrieval.index import Index
from geomm.retrieval.merge import merge_indexes
from geomm.retrieval.partition import search_partitions
from geomm.retrieval.verify import verify_index

__all__ = ["Index", "merge_indexes", "search_partitions", "verify_index"]
