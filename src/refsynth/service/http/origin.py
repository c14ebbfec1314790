"""Where a server without keys may be called from: this machine, and no web page but its own.

A browser lets any page send requests to this machine, also under a name that the page's owner points here (DNS rebinding). What
tells such a request is its Host, its Origin, and that a page cannot send JSON elsewhere without asking first. With keys none of
this is needed: a key stands in a header that a browser adds for nobody, and a page that asks whether it may send one is told no.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
READING = frozenset(("GET", "HEAD", "OPTIONS"))


class Foreign(NamedTuple):
    """Why a request is refused: status, code and message of the error."""

    status: int
    code: str
    message: str


class Origins:
    """The hosts that requests may name.

    Args:
        host: the address that the server listens on.
        allowed: further names by which it is reached.
    """

    def __init__(self, host: str, allowed: Sequence[str] = ()) -> None:
        self._names = {_bare(name) for name in ("localhost", host, *allowed)}
        self._anywhere = not is_loopback(host)

    def refusal(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Foreign | None:
        """Return why a request may come from a foreign page; None where it does not."""
        found: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"content-type": []}
        for name, value in headers:
            if name in found:
                found[name].append(value.decode("latin-1").strip().lower())
        hosts, origins, types = found.values()
        if len(hosts) != 1 or not self._knows(hosts[0]):
            return Foreign(403, "foreign_host", "this server is not known by that Host; --allow-host NAME makes it known")
        if origins and (len(origins) > 1 or origins[0].partition("://")[2] != hosts[0]):
            return Foreign(403, "foreign_origin", "a page from elsewhere may not use this server")
        if method not in READING and (len(types) != 1 or types[0].partition(";")[0].strip() != "application/json"):
            return Foreign(415, "not_json", "without keys, bodies are read as Content-Type: application/json only")
        return None

    def _knows(self, authority: str) -> bool:
        shape = _AUTHORITY.fullmatch(authority)
        if shape is None:
            return False
        name = _bare(shape[1])
        # A page cannot be rebound to an address, only to a name.
        return name in self._names or is_loopback(name) or (self._anywhere and _address(name) is not None)


def is_loopback(host: str) -> bool:
    """Tell whether a host is surely this machine; another name may mean any address."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bare(host: str) -> str:
    """Return a host as names are compared: without brackets and the root's dot."""
    return host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
