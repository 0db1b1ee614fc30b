"""Which addresses are followed: what a catalog may make geomm open, and what nobody may.

An address is taken apart here and put together again, so that no library sees a text that somebody else wrote as a
command: GDAL understands dozens of prefixes, options and formats that open further files and hosts.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from geomm.catalog.hosts import is_private, normal
from geomm.catalog.limits import Limits
from geomm.errors import ConfigError, UnsafeSourceError


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """What may be read. Every source carries the one that it was found under."""

    hosts: tuple[str, ...] = ()
    """Hosts that may be asked: ``data.example.org``, ``*.example.org``, ``10.0.0.5:9000``, ``s3://bucket``; empty for
    all public ones."""
    roots: tuple[str, ...] = ()
    """Folders that local files must lie in, symbolic links followed; empty for anywhere."""
    private: bool = False
    """Whether hosts of private networks and of this machine may be asked."""
    local: bool = True
    """Whether local files may be opened; those that a remote catalog names never are."""
    home: str = ""
    """Host and port that the catalog was opened from: it may name files there, wherever that is."""
    limits: Limits = dataclasses.field(default_factory=Limits)
    """What a file may claim."""

    def __post_init__(self) -> None:
        given: tuple[Any, ...] = (self.hosts, self.roots)
        if any(isinstance(v, str) or not hasattr(v, "__iter__") for v in given):
            fix = "write hosts=['data.example.org'] and roots=['/data/imagery']"
            raise ConfigError("hosts and roots of a policy are lists", where=repr(given)[:80], fix=fix)
        for host in map(str, self.hosts):
            name = re.fullmatch(r"(?:(?:s3|gs|az|abfs)://)?[^/\s]+", host, re.IGNORECASE)
            if name is None:
                bare = re.sub(r"^https?://|(?<=[^:/])/.*", "", host, flags=re.IGNORECASE)
                fix = f"write its name alone: hosts=[{bare!r}]"
                raise ConfigError("a host of a policy is no address", where=repr(host)[:80], fix=fix)
        object.__setattr__(self, "hosts", tuple(str(h).lower() for h in self.hosts))
        object.__setattr__(self, "roots", tuple(str(r) for r in self.roots))

    def __hash__(self) -> int:
        # Limits are compared, but seldom differ: hashing them too would cost more than the rest of a look-up.
        return hash((self.hosts, self.roots, self.home))

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return (type(self).__name__,)  # what may be read does not change what is read

    def of_catalog(self, href: str | Path) -> ReadPolicy:
        """Return the policy for what a catalog names: files of its own host, and local ones only if it is local."""
        text = str(href)
        if local_path(text) is not None:
            return self
        web = _WEB.fullmatch(text)
        home = f"{normal(web['host'])}:{_port(web)}" if web else ""
        return dataclasses.replace(self, local=False, home=home)


@dataclass(frozen=True, slots=True)
class Address:
    """An address that may be followed."""

    kind: Literal["local", "web", "bucket"]
    """A file, something at an HTTP server, or in an object store."""
    name: str
    """What rasterio opens: an absolute path, or GDAL's own name, made here."""
    host: str = ""
    """Of an HTTP server: name and port."""


_WEB = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?",
    re.IGNORECASE,
)
_BUCKET = re.compile(r"(?P<scheme>s3|gs|az|abfs)://(?P<bucket>[A-Za-z0-9._-]+)/(?P<key>[^?#]+)", re.IGNORECASE)
_STORES = {"s3": "/vsis3", "gs": "/vsigs", "az": "/vsiaz", "abfs": "/vsiaz"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_ENCODED = re.compile(r"%(?:0[0-9a-f]|1[0-9a-f]|7f|5c)", re.IGNORECASE)
_PREFIX = re.compile(r"[A-Za-z][\w+.\-]*:")
"""How drivers of GDAL, schemes and drives begin. A local file of such a name is written ``./name``."""


def check(href: str | Path, policy: ReadPolicy) -> Address:
    """Take an address apart, and put it together as what may be opened.

    Nothing is asked of any host or name server; see :func:`geomm.catalog.web.ask` for that.

    Raises:
        UnsafeSourceError: it is none that geomm follows, or the policy forbids it.
    """
    text = str(href)
    if not text or text.isspace():
        raise _refused(text, "it is empty")
    if _CONTROL.search(text):
        raise _refused(text, "it holds control characters or backslashes")
    if len(text) > 8192:
        raise _refused(text, f"it has {len(text)} characters")
    if text.lower().startswith("file://"):
        return _local(_path_of(text), text, policy)
    if _PREFIX.match(text) is None:
        return _local(text, text, policy)
    if _ENCODED.search(text.partition("?")[0]):
        raise _refused(text, "it holds encoded control characters or backslashes")
    web = _WEB.fullmatch(text)
    if web is not None:
        return _web(web, text, policy)
    store = _BUCKET.fullmatch(text)
    if store is not None:
        scheme, bucket = store["scheme"].lower(), store["bucket"]
        if policy.hosts and f"{scheme}://{bucket.lower()}" not in policy.hosts:
            raise _refused(text, f"the bucket is none of {', '.join(policy.hosts)}")
        return Address("bucket", f"{_STORES[scheme]}/{bucket}/{store['key']}")
    raise _refused(text, "it is neither a path nor an address of the form https://host/path or s3://bucket/key")


def local_path(href: str | Path) -> Path | None:
    """Return the path of a local source, None for a remote one."""
    return _local_path(str(href))


@lru_cache(maxsize=1024)
def _local_path(text: str) -> Path | None:
    if text.lower().startswith("file://"):
        return Path(unquote(text[len("file://") :]))
    return None if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) else Path(text)


def shown(href: str | Path) -> str:
    """Return an address for a message: without a query, which may hold a signature, and in one line."""
    text = str(href)
    return plain(text.partition("?")[0] if "://" in text[:10] else text)


def plain(text: str) -> str:
    """Return a text that somebody else wrote for a message: in one line, without what a terminal would obey."""
    return _CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", text)[:500]


def may_ask(host: str, policy: ReadPolicy) -> str:
    """Return why a host, given as name and port, may not be asked; nothing if it may."""
    name = host.rpartition(":")[0]
    if policy.hosts:
        return "" if listed(host, policy) else f"the host is none of {', '.join(policy.hosts)}"
    if policy.private or host == policy.home or not is_private(name):
        return ""
    return "the host is of a private network or of this machine"


def listed(host: str, policy: ReadPolicy) -> bool:
    """Tell whether a host, given as name and port, is named by a policy."""
    name = host.rpartition(":")[0]
    return any(
        name.endswith(entry[1:]) if entry.startswith("*.") else entry in (name, host, name.strip("[]"))
        for entry in policy.hosts
    )


def _web(web: re.Match[str], text: str, policy: ReadPolicy) -> Address:
    host = normal(web["host"])
    if not host.strip("."):
        raise _refused(text, "it names no host")
    place = f"{host}:{_port(web)}"
    if int(_port(web)) > 65535:
        raise _refused(text, "there is no such port")
    why = may_ask(place, policy)
    if why:
        fix = "if you trust it, allow it: open_catalog(..., policy=geomm.catalog.ReadPolicy(private=True))"
        raise _refused(text, why, fix)
    return Address("web", f"/vsicurl/{text}", place)


def _port(web: re.Match[str]) -> str:
    return web["port"] or ("443" if web["scheme"].lower() == "https" else "80")


def _path_of(text: str) -> str:
    """Return the path in the address of a local file."""
    path = text[len("file://") :]
    if path[:10].lower() == "localhost/":
        path = path[len("localhost") :]
    if not path.startswith("/") or "?" in path or "#" in path:
        raise _refused(text, "an address of a local file is file:///path, without host and options")
    path = unquote(path)
    if _CONTROL.search(path):
        raise _refused(text, "it holds encoded control characters or backslashes")
    return path


def _local(path: str, text: str, policy: ReadPolicy) -> Address:
    absolute = os.path.abspath(path)  # noqa: PTH100 a Path would not keep what is to be looked at
    try:
        os.fsencode(absolute)
    except UnicodeEncodeError as error:
        raise _refused(text, "it holds half a character") from error
    if re.match(r"/+vsi", absolute, re.IGNORECASE) or path.startswith("<"):
        raise _refused(text, "it is a name that only GDAL understands")
    if not policy.local:
        raise _refused(text, "a catalog that was opened from a server may not name local files")
    if policy.roots:
        real = os.path.realpath(absolute)
        if not any(real == root or real.startswith(root.rstrip("/") + "/") for root in map(_real, policy.roots)):
            raise _refused(text, f"it does not lie in {', '.join(policy.roots)}")
    return Address("local", absolute)


@lru_cache(maxsize=256)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


POLICY = ReadPolicy()
"""What holds where nobody says anything else."""


def _refused(text: str, why: str, fix: str = "correct the entry of the catalog, or leave it out") -> UnsafeSourceError:
    return UnsafeSourceError(
        "the address is not safe to follow", where=shown(text) or "an empty text", why=why, fix=fix
    )
