"""Count the bytes of the message that a connection is sending, and check them against limits."""

from __future__ import annotations

from refsynth.service.http.errors import Refusal

HEAD_BYTES = 64 << 10
HEADERS = 128
"""Maximum number of header fields: each costs far more memory than its bytes."""
FRAMING = 8
"""Maximum bytes of chunk framing per byte of a body: a body of single bytes needs five."""


HEAD_TOO_LARGE = Refusal(400, "head_too_large", f"the head of the request is larger than {HEAD_BYTES:,} bytes")
TOO_MANY_FIELDS = Refusal(400, "head_too_large", f"the head of the request has more than {HEADERS} fields")
TOO_MUCH_FRAMING = Refusal(400, "bad_request", "the chunk framing of the body is far larger than the body")


class Intake:
    """Counts one message at a time. The parser reports a field once it is complete; until then only arrived bytes count."""

    def __init__(self) -> None:
        self._messages = 0
        self.begin()
        self.whole = True

    def begin(self) -> None:
        """Start to count a message; its head comes first."""
        self._messages += 1
        self.in_head, self.whole = True, False
        self._head = self._fields = self._body = self._arrived = self._framing = 0

    def target(self, size: int) -> Refusal | None:
        """Count a part of the request target."""
        self._head += size
        return HEAD_TOO_LARGE if self._head > HEAD_BYTES else None

    def field(self, name: bytes, value: bytes) -> Refusal | None:
        """Count a header field."""
        self._fields += 1
        return TOO_MANY_FIELDS if self._fields > HEADERS else self.target(len(name) + len(value) + len(b": \r\n"))

    def part(self, size: int) -> None:
        """Count a part of the body."""
        self._body += size

    @property
    def mark(self) -> tuple[int, bool, int]:
        """The state of the counts, for `arrived`."""
        return self._messages, self.in_head, self._body

    def arrived(self, size: int, before: tuple[int, bool, int]) -> Refusal | None:
        """Count `size` bytes that were parsed since `mark` was `before`."""
        message, in_head, body = before
        if message != self._messages:  # the bytes span two messages; `field` and `part` have counted the second
            return None
        if in_head and self.in_head:
            self._arrived += size
        elif not in_head:  # includes trailers
            self._framing += size - (self._body - body)
        if self._arrived > HEAD_BYTES:
            return HEAD_TOO_LARGE
        return TOO_MUCH_FRAMING if self._framing > HEAD_BYTES + FRAMING * self._body else None
