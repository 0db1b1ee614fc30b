"""What a batch has done and has still to do: one sqlite file, written by one process, whole after any stop."""

from __future__ import annotations

from geomm.ledger.book import Ledger
from geomm.ledger.retry import Failure, Retries, failure_of
from geomm.ledger.tables import RunNote, Standing
from geomm.ledger.units import STATES, Part, State, Unit

__all__ = ["STATES", "Failure", "Ledger", "Part", "Retries", "RunNote", "Standing", "State", "Unit", "failure_of"]
