"""Explain a label: exact contributions if the model is additive, otherwise leave-one-part-out occlusion.

Occlusion (Li et al., arXiv:1612.08220) asks the model once per part of the text. A long text is split into at most `PARTS` runs
of words, which bounds the cost of an explanation.
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
    """A part of a text, `text[start:end]`."""

    start: int
    end: int


def spans(text: str) -> list[TextPart]:
    """Return the words of a text (characters, in scripts without spaces), joined into at most `PARTS` runs of similar length."""
    words = [TextPart(*match.span()) for match in _UNIT.finditer(text)]
    count = min(len(words), PARTS)
    edges = [len(words) * index // count for index in range(count + 1)] if count else []
    return [TextPart(words[first].start, words[last - 1].end) for first, last in pairwise(edges)]


def without(text: str, span: TextPart) -> str:
    """Return the text without one part. A pair stays a pair."""
    between = f" {DIVIDER} " if DIVIDER in text[span.start : span.end] else " "
    return text[: span.start] + between + text[span.end :]


def strongest(parts: Sequence[ExplainedPart], top: int) -> tuple[list[ExplainedPart], float]:
    """Return the `top` parts with the largest absolute values, strongest first, and the sum of the other values."""
    ranked = sorted(parts, key=lambda part: -abs(part.value))
    return ranked[:top], sum(part.value for part in ranked[top:])


def of_terms(contributions: Contributions) -> list[ExplainedPart]:
    """Return contributions as parts."""
    return [ExplainedPart(text=term, value=value) for term, value in contributions.terms]


def of_spans(text: str, spans: Sequence[TextPart], whole: float, occluded: Sequence[float]) -> list[ExplainedPart]:
    """Return each part with the fall in probability, from `whole` to `occluded`, when that part is left out."""
    return [
        ExplainedPart(text=text[span.start : span.end], value=whole - without, start=span.start, end=span.end)
        for span, without in zip(spans, occluded, strict=True)
    ]
