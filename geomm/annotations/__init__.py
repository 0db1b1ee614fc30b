"""Text tied to place and time: read it from files, items and question sets, and ask for the text of a window.

Text that somebody wrote and text that was derived from labels are kept apart: ``derived`` says which is which.
"""

from __future__ import annotations

from geomm.annotations.derive import derive_annotations, derive_text
from geomm.annotations.read import annotations_of, read_annotations, read_questions
from geomm.annotations.table import COLUMNS, Annotations, Note

__all__ = [
    "COLUMNS",
    "Annotations",
    "Note",
    "annotations_of",
    "derive_annotations",
    "derive_text",
    "read_annotations",
    "read_questions",
]
