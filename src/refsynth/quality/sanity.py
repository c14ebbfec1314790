"""Checks of a draft's form that need no model: length like the seed examples', no stuttering, no leftovers of a list."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

SHORT = "too short"
LONG = "too long"
REPETITIVE = "repeats itself"

LENGTH_SLACK = 2.5
"""Drafts may be this many times shorter or longer than the extremes of the seed examples."""

DISTINCT_FLOOR = 0.4
"""Smallest share of distinct words: English text of up to 60 words stays above 0.5."""


def units(text: str) -> list[str]:
    """Return the words of a text; where words are not spaced, its characters."""
    words = text.lower().split()
    return (
        words
        if any(character.isascii() and character.isalpha() for character in text) or len(words) > 3
        else list("".join(words))
    )


def form_check(seed_texts: Sequence[str], *, longest: int) -> Callable[[str], str | None]:
    """Return a function that names what is wrong with the form of a text, or gives None.

    Args:
        seed_texts: the user's texts; with fewer than 4 any length of 2 units up to `longest` is accepted.
        longest: no draft can have more units than this, however long the seed texts are.
    """
    lengths = [len(units(text)) for text in seed_texts]
    low, high = 2.0, float(longest)
    if len(lengths) >= 4:
        low = max(1.0, min(np.min(lengths) / LENGTH_SLACK, longest / 4))
        high = max(6.0, min(np.max(lengths) * LENGTH_SLACK, longest))

    def check(text: str) -> str | None:
        words = units(text)
        if len(words) < low:
            return SHORT
        if len(words) > high:
            return LONG
        if len(words) >= 6 and len(set(words)) / len(words) < DISTINCT_FLOOR * min(1.0, (40 / len(words)) ** 0.5):
            return REPETITIVE
        return None

    return check
