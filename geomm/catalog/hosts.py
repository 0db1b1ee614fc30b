"""Hosts of private networks, however they are written."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache

_NAMES = {"localhost", "localdomain", "metadata", "instance-data", "ip6-localhost", "ip6-loopback"}
_ENDINGS = (".localhost", ".localdomain", ".local", ".internal", ".intranet", ".lan", ".home.arpa", ".corp", ".home")
_SERVICES = {ipaddress.ip_address("168.63.129.16")}
"""Public addresses behind which a cloud answers its own machines."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def normal(host: str) -> str:
    """Return a host as it is compared: in lower case, without the dot of the root."""
    return host.lower().rstrip(".")


@lru_cache(maxsize=4096)
def is_private(host: str) -> bool:
    """Tell whether a host is of a private network or this machine, as far as its name says.

    Numbers in any notation that a resolver takes (``2130706433``, ``0x7f.1``, ``0177.0.0.1``, IPv4 within IPv6), names
    that stand for them, and names without a dot.
    """
    name = normal(host)
    if name.startswith("["):
        try:
            return private_number(name.strip("[]"))
        except ValueError:
            return True
    try:
        return private_number(socket.inet_ntoa(socket.inet_aton(name)))
    except OSError:
        return name in _NAMES or name.endswith(_ENDINGS) or "." not in name


def private_number(number: str) -> bool:
    """Tell whether an IP address is of a private network, or of a service of the cloud's own."""
    address = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and (address in _NAT64 or int(address) >> 32 == 0):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return private_number(str(inner))
    return not address.is_global or address.is_multicast or address in _SERVICES


def resolved_private(name: str, port: int) -> str:
    """Return an address of a private network that a name resolves to, or nothing."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name.strip("[]"), port, type=socket.SOCK_STREAM)}
    except OSError:
        return ""  # whoever connects will say so
    return next((number for number in sorted(found) if private_number(number)), "")
