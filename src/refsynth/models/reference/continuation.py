"""How a continuation is joined to its prompt and where it stops: string rules for every reference."""

from __future__ import annotations

from collections.abc import Callable

from refsynth.core.types import Completion

STOP = "\n"
"""The string that ends a completion and is not part of it."""

_OPENERS = "\"'([{“‘「『《（【"


def continuation(prompt: str, text: str) -> str:
    """Return a text as a continuation of the prompt: with a space before it if the prompt needs one."""
    if not prompt or not text or prompt[-1].isspace() or text[0].isspace() or prompt[-1] in _OPENERS:
        return text
    return " " + text


def completion_of(text: str, *, finished: bool) -> Completion:
    """Return the completion up to `STOP`, which finishes it."""
    head, stop, _ = text.partition(STOP)
    return Completion(head, finished or bool(stop))


def stop_ids(decode: Callable[[list[int]], str], size: int) -> frozenset[int]:
    """Return the token ids below `size` whose text contains `STOP`: sampling one of them ends a completion."""
    return frozenset(index for index in range(size) if STOP in decode([index]))
