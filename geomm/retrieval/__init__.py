"""Retrieval: an index of embedded places that answers a vector, a text or an image with the most similar places."""

from __future__ import annotations

from geomm.retrieval.index import Index

__all__ = ["Index"]
