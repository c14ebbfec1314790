"""Converts rows of token classification to the marked text that prompts show, and marked drafts back to rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from refsynth.core.marks import MarkError, places_in, read_marks, spans_in, write_marks
from refsynth.core.spans import Span, join_spans, split_spans
from refsynth.core.types import Example
from refsynth.core.words import words_of
from refsynth.data.quote import shorten
from refsynth.data.text import clean
from refsynth.kinds import SPANS

BROKEN = "marks do not parse"
UNKNOWN = "marks an unknown label"
UNMARKED = "marks nothing"


def with_marks(example: Example) -> Example:
    """Return a row with the spans marked in its text, and with the set of their labels as its label."""
    text = write_marks(example.text, places_in(example.text, split_spans(example.label)))
    return replace(example, text=text, label=SPANS.group(example.label))


def shown_rows(examples: Iterable[Example]) -> list[Example]:
    """Return rows as prompts show them. Long rows are cut where no mark is open."""
    return [with_marks(_shortened(example)) for example in examples]


def _shortened(example: Example) -> Example:
    """Return a row without the words at its end that do not fit into a prompt."""
    words, spans = words_of(example.text), split_spans(example.label)
    while len(words) > 1 and shorten(marked := with_marks(_cut(example, words[-1].end, spans)).text) != marked:
        words.pop()
        while spans and spans[-1].end > len(words):
            words = words[: spans.pop().start] or words[:1]
    return _cut(example, words[-1].end, spans)


def _cut(example: Example, end: int, spans: Iterable[Span]) -> Example:
    return replace(example, text=example.text[:end], label=join_spans(spans))


def without_marks(drafts: Iterable[Example], labels: Sequence[str]) -> tuple[list[Example], Mapping[str, int]]:
    """Return drafts as rows, and how many were rejected, by reason.

    A draft without marks is rejected: a model would learn from it that the text has no spans.
    """
    rows: list[Example] = []
    rejected: Counter[str] = Counter()
    known = {label.casefold(): label for label in labels}
    for draft in drafts:
        parsed = _parse(draft.text, known)
        if isinstance(parsed, str):
            rejected[parsed] += 1
        else:
            rows.append(replace(draft, text=parsed[0], label=join_spans(parsed[1])))
    return rows, rejected


def _parse(text: str, known: Mapping[str, str]) -> tuple[str, tuple[Span, ...]] | str:
    """Return a draft's text and its spans, or the reason why it is rejected."""
    try:
        marked = read_marks(text)
        if marked.loose:
            return BROKEN
        if not marked.places:
            return UNMARKED
        if any(place.label.casefold() not in known for place in marked.places):
            return UNKNOWN
        spans = spans_in(marked.text, [place._replace(label=known[place.label.casefold()]) for place in marked.places]).spans
    except MarkError:
        return BROKEN
    return clean(marked.text), spans
