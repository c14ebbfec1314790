"""Why a label: exact contributions where the model is additive, leave-one-part-out occlusion where it is not.

Occlusion (Li et al., arXiv:1612.08220) asks the model once per part of the text; a long text is cut into at most `PARTS` runs of
words, so that an explanation has a known price.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from refsynth.bundle import Contributions
from refsynth.core.pair import DIVIDER
from refsynth.core.words import UNSPACED_CLASS
from refsynth.service.http.schema import ExplainedPart

PARTS = 48
_UNIT = re.compile(rf"[{UNSPACED_CLASS}]|[^\s{UNSPACED_CLASS}{DIVIDER}]+")


class TextPart(NamedTuple):
    """A part of a text, in characters."""

    start: int
    end: int


def spans(text: str) -> list[TextPart]:
    """Return the words of a text (characters, in scripts without spaces), joined to at most `PARTS` runs of like length."""
    words = [TextPart(*match.span()) for match in _UNIT.finditer(text)]
    count = min(len(words), PARTS)
    edges = [len(words) * index // count for index in range(count + 1)] if count else []
    return [TextPart(words[first].start, words[last - 1].end) for first, last in pairwise(edges)]


def without(text: str, span: TextPart) -> str:
    """Return the text without a part; a pair stays a pair."""
    between = f" {DIVIDER} " if DIVIDER in text[span.start : span.end] else " "
    return text[: span.start] + between + text[span.end :]


def strongest(parts: Sequence[ExplainedPart], top: int) -> tuple[list[ExplainedPart], float]:
    """Return the parts of largest absolute value, strongest first, and the sum of the others."""
    ranked = sorted(parts, key=lambda part: -abs(part.value))
    return ranked[:top], sum(part.value for part in ranked[top:])


def of_terms(contributions: Contributions) -> list[ExplainedPart]:
    """Return contributions as parts."""
    return [ExplainedPart(text=term, value=value) for term, value in contributions.terms]


def of_spans(text: str, places: Sequence[TextPart], whole: float, left: Sequence[float]) -> list[ExplainedPart]:
    """Return how much the probability `whole` exceeds the one `left` without each part."""
    return [
        ExplainedPart(text=text[span.start : span.end], value=whole - rest, start=span.start, end=span.end)
        for span, rest in zip(places, left, strict=True)
    ]
