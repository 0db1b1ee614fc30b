"""Ask HTTP servers: within a policy, redirect by redirect, and with errors that say whether to try again."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin
from urllib.request import getproxies, proxy_bypass

from geomm.catalog.hosts import resolved_private
from geomm.catalog.policy import Address, ReadPolicy, check, listed, shown
from geomm.errors import GeommError, ReadError, UnavailableError, UnsafeSourceError

TIMEOUT = 60.0
"""Seconds that a server may be silent."""
REDIRECTS = 8
"""The most that are followed."""
_TRY_LATER = (408, 425, 429, 500, 502, 503, 504)
_KNOWN_FOR = 300.0
"""Seconds for which a server that was asked once is not asked again."""

_asked: dict[tuple[str, ReadPolicy], float] = {}
_lock = threading.Lock()


def session_of(policy: ReadPolicy, *, tries: int = 1) -> Any:
    """Return a session of requests that follows redirects only to where a policy allows.

    Args:
        policy: what is allowed.
        tries: how often a server that is busy is asked.
    """
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    guard(session, policy)
    session.max_redirects = REDIRECTS
    again = Retry(
        total=tries - 1,
        redirect=False,
        backoff_factor=0.5,
        status_forcelist=_TRY_LATER,
        raise_on_status=False,
        respect_retry_after_header=False,  # it may be hours; the caller is told
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=again))
    return session


def guard(session: Any, policy: ReadPolicy) -> None:
    """Let a session of requests follow redirects only to where a policy allows."""
    follow = session.get_redirect_target

    def checked(answer: Any) -> str | None:
        target: str | None = follow(answer)
        if target is not None:
            reachable(urljoin(answer.url, target), policy)
        return target

    session.get_redirect_target = checked


def reachable(url: str, policy: ReadPolicy) -> Address:
    """Check an address, and what its name resolves to.

    Raises:
        UnsafeSourceError: the policy forbids it.
    """
    address = check(url, policy)
    if address.kind != "web":
        raise UnsafeSourceError(
            "the address leads away from the web",
            where=shown(url),
            fix="use an address that begins with http:// or https://",
        )
    scheme = url.partition(":")[0].lower()
    name, _, port = address.host.rpartition(":")
    proxied = scheme in getproxies() and not proxy_bypass(name)
    if not (policy.private or address.host == policy.home or listed(address.host, policy) or proxied):
        number = resolved_private(name, int(port))
        if number:
            raise UnsafeSourceError(
                "the address is not safe to follow",
                where=shown(url),
                why=f"{name} is {number}, which is of a private network or of this machine",
                fix="if you trust it, allow it: open_catalog(..., policy=geomm.catalog.ReadPolicy(private=True))",
            )
    return address


@contextmanager
def answer_of(
    url: str, policy: ReadPolicy, *, headers: Mapping[str, str] | None = None, timeout: float = TIMEOUT, tries: int = 1
) -> Iterator[Any]:
    """Ask for an address; the body is read by the caller, piece by piece.

    Raises:
        UnsafeSourceError: the policy forbids the address, or one that it leads to.
        UnavailableError: there is no answer, or none for now.
        ReadError: too many redirects.
    """
    import requests
    from urllib3.exceptions import HTTPError

    reachable(url, policy)
    try:
        with (
            session_of(policy, tries=tries) as session,
            session.get(
                url, headers={"Accept-Encoding": "identity", **(headers or {})}, timeout=timeout, stream=True
            ) as answer,
        ):
            refused = refusal(answer, url)
            if refused is not None and refused.transient:
                raise refused
            yield answer
    except (requests.TooManyRedirects, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
        raise ReadError(
            "the address leads nowhere",
            where=shown(url),
            why=_short(error),
            fix="check the spelling of the address, and that it answers in a browser",
        ) from error
    except (requests.RequestException, HTTPError, OSError) as error:
        if isinstance(error, GeommError):
            raise
        raise UnavailableError(
            "the server did not answer, or not in full", where=shown(url), why=_short(error), fix="try again later"
        ) from error


def refusal(answer: Any, url: str) -> ReadError | None:
    """Return the error that the status of an answer stands for; None where it is none."""
    code = int(answer.status_code)
    if code < 400:
        return None
    why = f"the server answered {code} {answer.reason or ''}".rstrip()
    if code in _TRY_LATER or code >= 500:
        wait = _seconds(answer.headers.get("Retry-After"))
        about = {} if wait is None else {"retry_after": f"{wait:g}"}
        return UnavailableError(
            "the source is not available now", where=shown(url), why=why, fix="try again later", about=about
        )
    return ReadError("the source cannot be had", where=shown(url), why=why, fix="check the address and the access")


def ask(url: str, policy: ReadPolicy) -> None:
    """Ask a server for the first byte of a file, so that its redirects are known before GDAL follows them.

    Raises:
        UnsafeSourceError: the address, or one that it leads to, is not allowed.
        UnavailableError: there is no answer, or none for now.
    """
    key = (url, policy)
    with _lock:
        if time.monotonic() - _asked.get(key, -_KNOWN_FOR) < _KNOWN_FOR:
            return
    with answer_of(url, policy, headers={"Range": "bytes=0-0"}, tries=5):
        pass  # access that only GDAL knows the keys for may be refused here: GDAL says so, or succeeds
    with _lock:
        if len(_asked) > 10_000:
            _asked.clear()
        _asked[key] = time.monotonic()


def text_of(url: str, policy: ReadPolicy, *, most: int) -> str:
    """Return a text from a server.

    Args:
        url: where it is.
        policy: what is allowed.
        most: bytes of it that are read.

    Raises:
        ReadError: it cannot be had, is longer, or is not text.
    """
    with answer_of(url, policy, tries=5) as answer:
        refused = refusal(answer, url)
        if refused is not None:
            raise refused
        parts, size = [], 0
        for part in answer.iter_content(2**16):
            size += len(part)
            if size > most:
                raise ReadError(
                    "the text is too long",
                    where=shown(url),
                    why=f"it has more than {most} bytes",
                    fix="check the address: it leads to something else than a catalog",
                )
            parts.append(part)
    try:
        return b"".join(parts).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError(
            "the text is not UTF-8",
            where=shown(url),
            why=str(error),
            fix="check the address: it leads to something else than JSON or YAML",
        ) from error


def _seconds(text: str | None) -> float | None:
    """Parse ``Retry-After``: seconds, or a date (RFC 9110, section 10.2.3)."""
    if not text:
        return None
    try:
        return max(float(int(text)), 0.0)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    return max((moment - dt.datetime.now(dt.UTC)).total_seconds(), 0.0)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
