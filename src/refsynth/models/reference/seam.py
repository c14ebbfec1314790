"""Where a prompt ends and its continuation begins or stops: plain string rules that every reference shares."""

from __future__ import annotations

from collections.abc import Callable

from refsynth.core.types import Completion

_OPENERS = "\"'([{“‘「『《（【"


def continuation(prompt: str, text: str) -> str:
    """Return a finished text as the reference would have written it after the prompt: with a space between, if there is none."""
    if not prompt or not text or prompt[-1].isspace() or text[0].isspace() or prompt[-1] in _OPENERS:
        return text
    return " " + text


def completion_of(text: str, *, stop: str, finished: bool) -> Completion:
    """Return the completion up to `stop` (never, if that is empty); meeting it is a finish too."""
    head, found, _ = text.partition(stop) if stop else (text, "", "")
    return Completion(head, finished or bool(found))


def ids_holding(stop: str, decode: Callable[[list[int]], str], size: int) -> frozenset[int]:
    """Return the token ids below `size` whose text holds `stop`: sampling one of them ends a completion at once."""
    return frozenset(index for index in range(size) if stop in decode([index])) if stop else frozenset()
