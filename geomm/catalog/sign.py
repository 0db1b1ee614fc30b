"""Access tokens for files that a catalog hands out only signed: fetched when a file is opened, never stored."""

from __future__ import annotations

import datetime as dt
import threading
from urllib.parse import urlsplit

from geomm.catalog.web import refusal
from geomm.errors import ReadError, UnavailableError

STORAGE = ".blob.core.windows.net"
"""Hosts that tokens are sent to, and no other."""

_tokens: dict[str, tuple[str, dt.datetime]] = {}
_lock = threading.Lock()


def signed(href: str, signer: str) -> str:
    """Return the address of a file with an access token, where it needs one.

    Args:
        href: the file.
        signer: address that hands out tokens as JSON with ``token`` and ``msft:expiry`` for
            ``<signer>/<account>/<container>``, as the Planetary Computer's does; empty for files that need none.

    Raises:
        UnavailableError: the signer does not answer for now.
        ReadError: no token can be had.
    """
    parts = urlsplit(href)
    host = parts.hostname or ""
    if not signer or parts.query or not host.endswith(STORAGE):
        return href
    import requests

    address = f"{signer}/{host.removesuffix(STORAGE)}/{parts.path.split('/')[1]}"
    with _lock:
        token, expiry = _tokens.get(address, ("", dt.datetime.min.replace(tzinfo=dt.UTC)))
        if expiry < dt.datetime.now(dt.UTC) + dt.timedelta(minutes=2):
            try:
                answer = requests.get(address, timeout=30)
                answer.raise_for_status()
                found = answer.json()
                token, expiry = found["token"], dt.datetime.fromisoformat(found["msft:expiry"])
            except (OSError, ValueError, KeyError) as error:
                refused = getattr(error, "response", None)
                told = None if refused is None else refusal(refused, address)
                kind = UnavailableError if isinstance(error, requests.ConnectionError | requests.Timeout) else ReadError
                raise (type(told) if told else kind)(
                    "no access token can be had", where=address, why=str(error), about=told.about if told else None
                ) from error
            _tokens[address] = (token, expiry)
    return f"{href}?{token}"
