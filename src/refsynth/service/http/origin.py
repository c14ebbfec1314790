"""Protect a server without keys from foreign web pages: only this machine and the server's own page may call it.

A browser lets any page send requests to this machine, even under a name that the page's owner points here (DNS rebinding). Such
a request shows by its Host, its Origin, or a Content-Type other than JSON: a page cannot send JSON to another site without asking
first. With keys none of this is needed: a browser never adds a key by itself, and it asks before a page may send one.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from refsynth.service.http.errors import Refusal

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.IGNORECASE)
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


class Origins:
    """The hosts that requests may name.

    Args:
        host: the address that the server listens on.
        allowed: further names by which clients may call it.
    """

    def __init__(self, host: str, allowed: Sequence[str] = ()) -> None:
        self._names = {_bare(name) for name in ("localhost", host, *allowed)}
        self._anywhere = not is_loopback(host)

    def refusal(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Refusal | None:
        """Return why a request is refused because a foreign page may have sent it; None if it is accepted."""
        values: dict[bytes, list[str]] = {b"host": [], b"origin": [], b"content-type": []}
        for name, value in headers:
            if name in values:
                values[name].append(value.decode("latin-1").strip().lower())
        hosts, origins, types = values.values()
        if len(hosts) != 1 or not self._is_known(hosts[0]):
            return Refusal(403, "foreign_host", "this server does not know that Host; --allow-host NAME allows it")
        if origins and (len(origins) > 1 or origins[0].partition("://")[2] != hosts[0]):
            return Refusal(403, "foreign_origin", "a page from another site may not use this server")
        if method not in SAFE_METHODS and (len(types) != 1 or types[0].partition(";")[0].strip() != "application/json"):
            return Refusal(415, "not_json", "without keys, a body must have Content-Type: application/json")
        return None

    def _is_known(self, authority: str) -> bool:
        match = _AUTHORITY.fullmatch(authority)
        if match is None:
            return False
        name = _bare(match[1])
        # DNS rebinding needs a name, so addresses are safe.
        return name in self._names or is_loopback(name) or (self._anywhere and _address(name) is not None)


def is_loopback(host: str) -> bool:
    """Tell whether a host certainly means this machine; any name but localhost may resolve to any address."""
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _bare(host: str) -> str:
    """Return a host in lower case, without brackets and without the trailing dot of the DNS root."""
    return host.lower().removeprefix("[").removesuffix("]").removesuffix(".")
