"""Entities of a text as spans of its words, as BIO tags, and as one label: `0-2:person 5-6:place`, or `(none)`.

Every stage passes the label on like any other. Only the code that fits, decides or counts takes it apart. Places count words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from refsynth.core.labelset import NONE

OUTSIDE = "O"
UNREAD = -30.0
"""The logit of all tags except "outside" for a word beyond the part of a text that a model reads."""

_SPANS = re.compile(r"\d+-\d+:\S+(?: \d+-\d+:\S+)*")
_MARKS = "[]()\\:"


class Span(NamedTuple):
    """The words from `start` up to but not including `end`, and their label."""

    start: int
    end: int
    label: str


def join_spans(spans: Iterable[Span]) -> str:
    """Return spans as one label, in the order of the text."""
    return " ".join(f"{start}-{end}:{label}" for start, end, label in sorted(spans)) or NONE


def split_spans(label: str) -> list[Span]:
    """Return the spans of a label."""
    return [] if label == NONE else [_span(part) for part in label.split(" ")]


def _span(part: str) -> Span:
    place, _, label = part.partition(":")
    start, _, end = place.partition("-")
    return Span(int(start), int(end), label)


def names_in(label: str) -> tuple[str, ...]:
    """Return the labels of the spans in a label, each once and sorted; the label itself if it is not one of spans."""
    return tuple(sorted({span.label for span in split_spans(label)})) if _SPANS.fullmatch(label) else (label,)


def unfit_name(name: str) -> bool:
    """Return whether a label with that name could not be part of a tag or a mark."""
    return not name or any(character.isspace() or character in _MARKS for character in name)


def tag_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Return the C = 1 + 2 K tags of K labels: outside, the first words of each label, its further words."""
    return (OUTSIDE, *(f"B-{label}" for label in labels), *(f"I-{label}" for label in labels))


def tags_of(spans: Iterable[Span], n: int) -> list[str]:
    """Return the BIO tags of `n` words."""
    tags = [OUTSIDE] * n
    for start, end, label in spans:
        tags[start:end] = [f"B-{label}"] + [f"I-{label}"] * (end - start - 1)
    return tags


def spans_of(tags: Sequence[str]) -> list[Span]:
    """Return the spans of BIO tags as conlleval and seqeval read them: an `I-` that continues nothing begins a span."""
    spans: list[Span] = []
    for place, tag in enumerate(tags):
        kind, _, label = tag.partition("-")
        if kind == "I" and spans and spans[-1].end == place and spans[-1].label == label:
            spans[-1] = spans[-1]._replace(end=place + 1)
        elif kind != OUTSIDE:
            spans.append(Span(place, place + 1, label))
    return spans
