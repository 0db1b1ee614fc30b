"""The errors of geomm: one base class, leaves that are also the built-in type a caller would expect.

Every message answers four questions: what happened, where, why, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

LISTED = 40
"""Names of a registry that a message lists at most."""


def nearest(name: str, known: Iterable[object]) -> list[str]:
    """Return the names that a misspelt one may stand for, the likeliest first, at most three.

    Upper case, hyphens, underscores and blanks do not count; nor does what a name leaves out at its end.

    >>> nearest("optcal", ["optical", "thermal"]), nearest("Sentinel-2", ["sentinel2-l2a", "sentinel1-grd"])
    (['optical'], ['sentinel2-l2a'])
    """
    folded: dict[str, list[str]] = {}
    for one in known:
        folded.setdefault(_folded(str(one)), []).append(str(one))
    wanted = _folded(str(name))
    if not wanted:
        return []
    begun = [k for k in folded if len(wanted) >= 3 and (k.startswith(wanted) or (len(k) >= 3 and wanted.startswith(k)))]
    alike = difflib.get_close_matches(wanted, folded, n=3, cutoff=0.66)
    keys = [wanted] if wanted in folded else sorted(begun, key=len, reverse=True) or alike
    return [one for key in keys for one in folded[key]][:3]


def did_you_mean(name: str, known: Iterable[object], otherwise: str) -> str:
    """Return the fix of a name that does not exist: the nearest ones, or another advice where none is near."""
    near = nearest(name, known)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else otherwise


def typo_of(name: str, known: Iterable[object]) -> str | None:
    """Return the name that another one is most likely a misspelling of; names that differ in a number are not.

    >>> typo_of("optcal", ["optical"]), typo_of("s1_2023", ["s1_2024"]), typo_of("sar", ["optical"])
    ('optical', None, None)
    """
    digits = [c for c in name if c.isdigit()]
    keys = {_folded(str(k)): str(k) for k in known if [c for c in str(k) if c.isdigit()] == digits}
    return next((keys[k] for k in difflib.get_close_matches(_folded(name), keys, n=1, cutoff=0.8)), None)


def _folded(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


class GeommError(Exception):
    """Base of every error that geomm raises on purpose.

    Args:
        what: what went wrong, as a sentence without a full stop.
        where: the item, asset, file, window or field concerned.
        why: the reason, with both sides of a mismatch.
        fix: what to do next.
        about: the same for machines: any of ``item``, ``asset`` and ``window``, and ``retry_after`` in seconds.
    """

    code = "E000"
    transient = False
    """Whether the same may succeed a little later: a time-out, an overloaded server, a lost worker."""

    def __init__(
        self, what: str, *, where: str = "", why: str = "", fix: str = "", about: Mapping[str, str] | None = None
    ) -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        self.about = dict(about or {})
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what.rstrip(".") + "."]
        parts += [
            f"{label}: {text.rstrip('.')}{'' if text.endswith('?') else '.'}"
            for label, text in (("Where", self.where), ("Why", self.why), ("Next", self.fix))
            if text
        ]
        return " ".join(parts) + f" [GEOMM-{self.code}]"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword arguments survive pickling, so that dask workers and processes report the whole message.
        return _rebuild, (type(self), self.what, self.where, self.why, self.fix, self.about)


def _rebuild(
    cls: type[GeommError], what: str, where: str, why: str, fix: str, about: Mapping[str, str]
) -> GeommError:  # fmt: skip
    return cls(what, where=where, why=why, fix=fix, about=about)


class SourceWarning(UserWarning):
    """A source that could not be read; its pixels are marked in the cube's ``status``."""


class RadiometryWarning(UserWarning):
    """Pixels that contradict what the catalog says about their calibration; the message holds the evidence."""


class UnknownNameError(GeommError, LookupError):
    """A sensor, band, encoder, fusion, task or layer that geomm does not know; the message lists the valid names."""

    code = "E101"

    @classmethod
    def of(cls, kind: str, name: str, known: object) -> UnknownNameError:
        """Build the error for a failed look-up in a registry of ``kind``; it suggests the names nearest to it."""
        names = sorted(str(k) for k in known) if isinstance(known, Iterable) else [str(known)]
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        fix = did_you_mean(name, names, "use one of these names")
        return cls(f"unknown {kind} {repr(name)[:80]}", why=f"known: {', '.join(names[:LISTED])}{more}", fix=fix)


class DuplicateNameError(GeommError, ValueError):
    """A sensor, fusion or task that is registered under a name that is taken."""

    code = "E102"

    @classmethod
    def of(cls, kind: str, name: str) -> DuplicateNameError:
        """Build the error for a second registration in a registry of ``kind``."""
        return cls(f"there is a {kind} {name!r} already", fix="register it under another name")


class CatalogError(GeommError, ValueError):
    """A catalog, an item or a search that cannot be used."""

    code = "E201"


class CatalogUnavailableError(CatalogError):
    """A catalog that did not answer; it may do so later."""

    code = "E203"
    transient = True


class MissingBandError(GeommError, LookupError):
    """An item lacks a band that a sensor or a model needs."""

    code = "E202"


class GridError(GeommError, ValueError):
    """No CRS, no overlap, or grids that do not belong together."""

    code = "E301"


class ReadError(GeommError, OSError):
    """A source that cannot be opened or decoded."""

    code = "E302"


class UnavailableError(ReadError):
    """A source that did not answer, or not in full; it may do so later."""

    code = "E304"
    transient = True

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait for, if it does."""
        return float(self.about["retry_after"]) if "retry_after" in self.about else None


class UnsafeSourceError(ReadError):
    """An address, a format or a name that geomm refuses to follow, whoever wrote it."""

    code = "E305"


class ChecksumError(ReadError):
    """A file whose content is not what its catalog says."""

    code = "E306"


class LimitError(ReadError):
    """A file that claims more pixels, bands or bytes than geomm will read."""

    code = "E307"


class UnitError(GeommError, ValueError):
    """A physical unit that cannot be converted into the one that is wanted."""

    code = "E303"


class SplitError(GeommError, ValueError):
    """A train / validation / test split without pixels, or one that would leak."""

    code = "E401"


class ContractError(GeommError, ValueError):
    """Imagery that does not meet the input contract of a model."""

    code = "E501"


class PackageError(GeommError, ValueError):
    """A model package, chip store or index that is damaged or incomplete."""

    code = "E502"


class ModelChangedError(PackageError):
    """A model package that was replaced while a run was at work with it; the next run takes the new one."""

    code = "E503"
    transient = True


class OutputError(GeommError, OSError):
    """A product that cannot be written."""

    code = "E601"


class NondeterminismError(OutputError):
    """A unit of work that was published before, with other bytes."""

    code = "E602"


class TargetUnavailableError(OutputError):
    """A place for products that did not answer, or is taken by another process; it may be there later."""

    code = "E603"
    transient = True


class ConfigError(GeommError, ValueError):
    """A recipe or an argument that cannot be understood."""

    code = "E701"


class DependencyError(GeommError, ImportError):
    """An optional package that is not installed."""

    code = "E702"


class BusyError(GeommError, BlockingIOError):
    """An output that another run is writing."""

    code = "E801"
