"""Rows of a task of spans as the reference sees them, with their marks in the text; and its drafts as rows again."""

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
    """Return a row with its marks in the text, and the set of its labels instead of their places."""
    text = write_marks(example.text, places_in(example.text, split_spans(example.label)))
    return replace(example, text=text, label=SPANS.group(example.label))


def shown_rows(examples: Iterable[Example]) -> list[Example]:
    """Return rows as prompts show them: long ones are cut where no mark is open."""
    return [with_marks(_shortened(example)) for example in examples]


def _shortened(example: Example) -> Example:
    """Return a row without the words at its end for which a prompt has no room."""
    words, spans = words_of(example.text), split_spans(example.label)
    while len(words) > 1 and shorten(marked := with_marks(_cut(example, words[-1].end, spans)).text) != marked:
        words.pop()
        while spans and spans[-1].end > len(words):
            words = words[: spans.pop().start] or words[:1]
    return _cut(example, words[-1].end, spans)


def _cut(example: Example, end: int, spans: Iterable[Span]) -> Example:
    return replace(example, text=example.text[:end], label=join_spans(spans))


def without_marks(drafts: Iterable[Example], labels: Sequence[str]) -> tuple[list[Example], Mapping[str, int]]:
    """Return drafts as rows, and how many are none, by reason: where nothing is marked, that nothing is there would be learnt."""
    rows: list[Example] = []
    rejected: Counter[str] = Counter()
    named = {label.casefold(): label for label in labels}
    for draft in drafts:
        read = _read(draft.text, named)
        if isinstance(read, str):
            rejected[read] += 1
        else:
            rows.append(replace(draft, text=read[0], label=join_spans(read[1])))
    return rows, rejected


def _read(text: str, named: Mapping[str, str]) -> tuple[str, tuple[Span, ...]] | str:
    """Return a draft's text and its spans, or why it has none."""
    try:
        marked = read_marks(text)
        if marked.loose:
            return BROKEN
        if not marked.places:
            return UNMARKED
        if any(place.label.casefold() not in named for place in marked.places):
            return UNKNOWN
        spans = spans_in(marked.text, [place._replace(label=named[place.label.casefold()]) for place in marked.places]).spans
    except MarkError:
        return BROKEN
    return clean(marked.text), spans
