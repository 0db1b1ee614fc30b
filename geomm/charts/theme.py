"""Colours of charts and maps, light or dark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of charts and maps."""

    paper: str
    """Behind everything."""
    ink: str
    """Text, frame and scale."""
    grid: str
    """Lines that help to read."""
    accent: str
    """What matters most; footprints and labels of maps."""
    label: str
    """Text on labels."""
    series: tuple[str, ...]
    """Of lines and points, in turn; told apart by people who see no red or no green as well."""


LIGHT = Theme(
    "#ffffff", "#3b4350", "#e3e7ec", "#0b62a8", "#ffffff",
    ("#1f77b4", "#c0504d", "#b8860b", "#2c8a57", "#7b52ab", "#5b6675"),
)  # fmt: skip
DARK = Theme(
    "#1d2128", "#c3cad4", "#30363f", "#6cb6ff", "#10151c",
    ("#5aa9e6", "#f2837b", "#e8bb55", "#5fc596", "#b392e0", "#9aa5b3"),
)  # fmt: skip
