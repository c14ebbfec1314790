"""The limit on the size of a server's answer, so that no answer fills the memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MOST = 64 << 20
"""The most bytes of one answer. The largest valid ones (many texts, or scores of a long prompt's tokens) have a tenth of it."""

PLAIN = {"Accept-Encoding": "identity"}
"""The header that asks for uncompressed answers: a small compressed one may expand to any size."""

ENCODINGS = ("", "identity", "gzip", "deflate")
"""The encodings that are read all the same: one chunk expands to at most a thousand times its size."""

ENDLESS = "is this an OpenAI-compatible server? Ask for fewer texts at once (synthesis.per_prompt), or name another endpoint"


class EndlessError(Exception):
    """An answer is larger than any valid one."""


def bound(response: Any) -> None:
    """Limit the bytes that will be read of a response; so far only its headers were read.

    Raises:
        EndlessError: the response has a compression that can expand to any size; or it is longer than `MOST`, when it is read.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding not in ENCODINGS:
        raise EndlessError(f"the answer is compressed ({encoding[:20]}), which was not asked for")
    parts = response.iter_bytes

    def bounded(chunk_size: int | None = None) -> Iterator[bytes]:
        size = 0
        for part in parts(chunk_size):
            size += len(part)
            if size > MOST:
                raise EndlessError(f"the answer is longer than {MOST:,} bytes")
            yield part

    response.iter_bytes = bounded
