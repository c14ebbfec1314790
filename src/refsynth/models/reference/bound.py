"""How much of a server's answer is read: whatever it sends, memory holds no more. Knows nothing of what answers mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MOST = 64 << 20
"""Bytes of one answer. The largest that are meant, many texts or a score for each token of a long prompt, are a tenth of it."""

PLAIN = {"Accept-Encoding": "identity"}
"""The header that asks for bytes as they are: a small compressed answer may unfold to any size."""

UNFOLDING = ("", "identity", "gzip", "deflate")
"""How an answer may come all the same: what is read at a time unfolds to a thousand times its size at most."""

ENDLESS = "is this an OpenAI-compatible server? Ask for fewer texts at once (synthesis.per_prompt), or name another endpoint"


class EndlessError(Exception):
    """An answer is longer than any that is meant."""


def bound(response: Any) -> None:
    """Bound what will be read of an answer of the client, of which nothing but the head was read.

    Raises:
        EndlessError: it is compressed in a way that unfolds to any size; or, when it is read, longer than `MOST`.
    """
    packed = response.headers.get("content-encoding", "").strip().lower()
    if packed not in UNFOLDING:
        raise EndlessError(f"the answer is compressed ({packed[:20]}), which was not asked for")
    parts = response.iter_bytes

    def bounded(chunk_size: int | None = None) -> Iterator[bytes]:
        size = 0
        for part in parts(chunk_size):
            size += len(part)
            if size > MOST:
                raise EndlessError(f"the answer is longer than {MOST:,} bytes")
            yield part

    response.iter_bytes = bounded
