"""Opening object stores, and what their errors mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from geomm.errors import ConfigError, DependencyError, GeommError, OutputError, TargetUnavailableError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

RETRIES = 4
"""Times a request is sent again by the client itself, with growing pauses."""
TIMEOUT = timedelta(seconds=120)
"""For one request with its body: 32 MiB at 2.3 Mbit/s."""
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_STATUS = re.compile(r"status code: (\d{3})")
_LATER = re.compile(
    r"RequestTimeout|SlowDown|InternalError|ServiceUnavailable|Throttl|IncompleteBody|BadDigest|ContentSHA256Mismatch"
)
"""Codes of S3 that come with a 4xx status although the same request may succeed."""
_NETWORK = re.compile(r"error sending request|timed? ?out|connection|error decoding|HTTP error", re.IGNORECASE)
_METADATA = re.compile(r"169\.254\.169\.254|metadata\.google\.internal|fd00:ec2")


def open_store(url: str) -> ObjectStore:
    """Open the store of a URL with what the environment says; nothing is asked yet.

    For S3 every upload carries the SHA-256 of what was read here (``AWS_CHECKSUM_ALGORITHM`` says otherwise), so that a
    body that arrives short or changed is refused. Plain http is spoken where the endpoint says ``http://``.

    Raises:
        ConfigError: the address or the environment cannot be understood.
        DependencyError: obstore is not installed.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import MemoryStore, from_url
    except ImportError as error:
        raise DependencyError(
            "object stores need obstore", where=url, why=str(error), fix="uv pip install 'geomm[objects]'"
        ) from error
    if url.startswith("memory://"):
        return MemoryStore()
    client: ClientConfig = {"timeout": TIMEOUT, "connect_timeout": timedelta(seconds=10)}
    config: dict[str, Any] = {}
    if url.startswith("s3://"):
        endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
        if endpoint:
            config["endpoint"] = endpoint
        if endpoint.startswith("http://"):
            client["allow_http"] = True
        if "AWS_CHECKSUM_ALGORITHM" not in os.environ:
            config["checksum_algorithm"] = "SHA256"
    retry: RetryConfig = {"max_retries": RETRIES, "retry_timeout": TIMEOUT}
    try:
        return from_url(url, client_options=client, retry_config=retry, **config)
    except (BaseError, ValueError) as error:
        raise ConfigError(
            "the object store cannot be opened",
            where=url,
            why=_short(error),
            fix="check the address and the environment",
        ) from error


@contextmanager
def explained(what: str, where: str) -> Iterator[None]:
    """Turn errors of a store into an :class:`OutputError`, or :class:`TargetUnavailableError` if it may work later."""
    from obstore.exceptions import BaseError

    try:
        yield
    except GeommError:
        raise
    except (BaseError, OSError, ValueError) as error:
        text = str(error)
        if _METADATA.search(text):
            raise OutputError(
                what,
                where=where,
                why="the environment holds no credentials, and this machine offers none",
                fix="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what your store wants",
            ) from error
        if _transient(error, text):
            raise TargetUnavailableError(what, where=where, why=_short(error), fix="try again later") from error
        raise OutputError(
            what, where=where, why=_short(error), fix="check the address, the credentials and their rights"
        ) from error


def _transient(error: Exception, text: str) -> bool:
    """Return whether the same may work later: a full or failing server, a lost or slow connection."""
    from obstore.exceptions import GenericError

    status = _STATUS.search(text)
    if status is not None:
        code = int(status[1])
        return code in {408, 425, 429} or (code >= 500 and code != 501) or bool(_LATER.search(text))
    return isinstance(error, GenericError | TimeoutError | ConnectionError) and bool(_NETWORK.search(text))


def _short(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error).split("\n\nDebug source:", maxsplit=1)[0])
    return f"{type(error).__name__}: {text[:400]}"
