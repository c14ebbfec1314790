"""How a continuation is joined to its prompt and where it stops: string rules for every reference."""

from __future__ import annotations

from collections.abc import Callable

from refsynth.core.types import Completion

_OPENERS = "\"'([{“‘「『《（【"


def continuation(prompt: str, text: str) -> str:
    """Return a text as a continuation of the prompt: with a space before it if the prompt needs one."""
    if not prompt or not text or prompt[-1].isspace() or text[0].isspace() or prompt[-1] in _OPENERS:
        return text
    return " " + text


def completion_of(text: str, *, stop: str, finished: bool) -> Completion:
    """Return the completion up to `stop`, which finishes it; if `stop` is empty, return the whole text."""
    head, separator, _ = text.partition(stop) if stop else (text, "", "")
    return Completion(head, finished or bool(separator))


def ids_holding(stop: str, decode: Callable[[list[int]], str], size: int) -> frozenset[int]:
    """Return the token ids below `size` whose text contains `stop`: sampling one of them ends a completion."""
    return frozenset(index for index in range(size) if stop in decode([index])) if stop else frozenset()
