"""What has come of the message that a connection sends now, in bytes, and whether it is within bounds."""

from __future__ import annotations

from typing import NamedTuple

HEAD_BYTES = 64 << 10
HEADERS = 128
"""Fields of a head: each costs far more memory than its bytes."""
FRAMING = 8
"""Bytes around the chunks of a body, for each byte in them: a body of single bytes needs five."""


class Overstep(NamedTuple):
    """A bound that a message does not keep: status, code and message of the error."""

    status: int
    code: str
    message: str


LARGE = Overstep(400, "head_too_large", f"the head of the request is larger than {HEAD_BYTES:,} bytes")
MANY = Overstep(400, "head_too_large", f"the head of the request has more than {HEADERS} fields")
HOLLOW = Overstep(400, "bad_request", "there is far more around the parts of the body than in them")


class Intake:
    """Counts. The parser tells of a field when all of it is there; until then what arrived is counted as a whole."""

    def __init__(self) -> None:
        self._messages = 0
        self.begin()
        self.whole = True

    def begin(self) -> None:
        """A message begins with its head."""
        self._messages += 1
        self.in_head, self.whole = True, False
        self._head = self._fields = self._body = self._arrived = self._framing = 0

    def target(self, size: int) -> Overstep | None:
        """Count a part of the target of a request."""
        self._head += size
        return LARGE if self._head > HEAD_BYTES else None

    def field(self, name: bytes, value: bytes) -> Overstep | None:
        """Count a field of a head."""
        self._fields += 1
        return MANY if self._fields > HEADERS else self.target(len(name) + len(value) + len(b": \r\n"))

    def part(self, size: int) -> None:
        """Count a part of a body."""
        self._body += size

    @property
    def mark(self) -> tuple[int, bool, int]:
        """Where the counts stand, for `arrived`."""
        return self._messages, self.in_head, self._body

    def arrived(self, size: int, before: tuple[int, bool, int]) -> Overstep | None:
        """Count what arrived and was parsed since the counts stood at `before`."""
        message, in_head, body = before
        if message != self._messages:  # of two messages: what counts of the second, its fields tell
            return None
        if in_head and self.in_head:
            self._arrived += size
        elif not in_head:  # trailers belong to it too
            self._framing += size - (self._body - body)
        if self._arrived > HEAD_BYTES:
            return LARGE
        return HOLLOW if self._framing > HEAD_BYTES + FRAMING * self._body else None
