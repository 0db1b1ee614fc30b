"""Recipes as incremental batches: what is new is planned, made, verified and published; nothing is done twice."""

from __future__ import annotations

from geomm.batch.options import BatchOptions
from geomm.batch.run import BatchResult, run_batch

__all__ = ["BatchOptions", "BatchResult", "run_batch"]
