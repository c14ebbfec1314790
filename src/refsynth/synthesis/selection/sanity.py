"""Checks the form of a draft without a model: its length, repetition, and marks that all seed examples have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

SHORT = "too short"
LONG = "too long"
REPETITIVE = "repeats itself"
UNMARKED = "lacks marks that all rows have"

LENGTH_SLACK = 2.5
"""A draft may be this many times shorter than the shortest seed example, or longer than the longest."""

_MARK = re.compile(r"</?[^\W\d]\w*>|\[/?[^\W\d]\w*\]")
"""A mark around an argument of a relation, for example `<a>`, `</a>` or `[E1]`."""

DISTINCT_FLOOR = 0.4
"""Smallest share of distinct words. English text of up to 60 words stays above 0.5."""


def units(text: str) -> list[str]:
    """Return the words of a text, or its characters if its script has no spaces between words."""
    words = text.lower().split()
    spaced = any(character.isascii() and character.isalpha() for character in text) or len(words) > 3
    return words if spaced else list("".join(words))


def _once(text: str) -> frozenset[str]:
    """Return the marks that occur exactly once in a text."""
    return frozenset(mark for mark, count in Counter(_MARK.findall(text)).items() if count == 1)


def form_check(seed_texts: Sequence[str], *, longest: int) -> Callable[[str], str | None]:
    """Return a function that returns what is wrong with the form of a text, or None.

    If each of four or more seed texts has a mark such as `<a>` or `</a>` exactly once, a draft must have it exactly once too.

    Args:
        seed_texts: the user's texts. With fewer than 4, any length from 2 units to `longest` is accepted.
        longest: most units of a draft, however long the seed texts are.
    """
    lengths = [len(units(text)) for text in seed_texts]
    low, high = 2.0, float(longest)
    if len(lengths) >= 4:
        low = max(1.0, min(np.min(lengths) / LENGTH_SLACK, longest / 4))
        high = max(6.0, min(np.max(lengths) * LENGTH_SLACK, longest))
    marks = frozenset.intersection(*map(_once, seed_texts)) if len(lengths) >= 4 else frozenset()

    def check(text: str) -> str | None:
        if not marks <= _once(text):
            return UNMARKED
        words = units(text)
        if len(words) < low:
            return SHORT
        if len(words) > high:
            return LONG
        if len(words) >= 6 and len(set(words)) / len(words) < DISTINCT_FLOOR * min(1.0, (40 / len(words)) ** 0.5):
            return REPETITIVE
        return None

    return check
