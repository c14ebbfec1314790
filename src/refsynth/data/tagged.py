"""A row of a task of spans as its text and the label of its spans: marks in the text, tokens with tags, places, or that label.

Knows nothing of the task's labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from refsynth.core.labelset import NONE
from refsynth.core.marks import MarkError, Place, read_marks, spans_in, write_marks
from refsynth.core.sections import Columns
from refsynth.core.spans import OUTSIDE, Span, join_spans, names_in, spans_of, split_spans, unfit_name
from refsynth.core.words import unspaced, words_of
from refsynth.data.text import clean

TOKENS, TAGS = "tokens", "tags"
"""Keys of a row that is a list of tokens with a list of tags, where the columns are not named."""


class TaggedRow(NamedTuple):
    """A text, its spans as one label, None where the row says nothing of them, and how many marks were widened to whole words."""

    text: str
    label: str | None
    widened: int = 0


def read_tagged(values: Mapping[str, Any], columns: Columns) -> TaggedRow:
    """Return the text and the spans of a row.

    Raises:
        MarkError: its marks, tags or places cannot be read.
    """
    tokens, tags = _cells(values, columns)
    if isinstance(tokens, list):
        return _of_tokens(tokens, tags)
    if isinstance(tags, list):
        return _of_places(str(tokens), tags)
    if isinstance(tags, str) and (tags == NONE or names_in(tags) != (tags,)):
        return _of_words(clean(str(tokens)), tags)
    if tags not in (None, ""):
        raise MarkError(f"'{columns.label}' is neither a list of tags nor of spans; marks stand in the text: [words](label)")
    marked = read_marks(clean(str(tokens)))
    spans, widened = spans_in(marked.text, marked.places)
    return _row(clean(marked.text), spans, widened)


def _row(text: str, spans: Iterable[Span], widened: int = 0) -> TaggedRow:
    """Return the row, unless a name could not stand in one label with places."""
    spans = list(spans)
    wrong = next((span.label for span in spans if unfit_name(span.label)), None)
    if wrong is not None:
        raise MarkError(f"the label {wrong[:40]!r}: expected a name without space, bracket, colon and backslash")
    return TaggedRow(text, join_spans(spans), widened)


def _of_words(text: str, label: str) -> TaggedRow:
    """Read spans in words, as records of a server have them."""
    spans = split_spans(label)
    words = len(words_of(text))
    if any(one.start >= one.end or one.end > words for one in spans) or any(one.end > two.start for one, two in pairwise(spans)):
        raise MarkError(f"the spans {label[:40]!r} do not fit a text of {words} words")
    return _row(text, spans)


def read_plain(values: Mapping[str, Any], columns: Columns) -> str:
    """Return the text of a row, or its tokens as a text; brackets are no marks.

    Raises:
        MarkError: the tokens are no strings.
    """
    tokens, _ = _cells(values, columns)
    return _joined(tokens)[0] if isinstance(tokens, list) else str(tokens)


def tells_words(values: Mapping[str, Any], columns: Columns) -> bool:
    """Return whether a row says labels of words beyond doubt: as a list of tokens with one of tags, or as a list of places."""
    tokens, tags = _cells(values, columns)
    if not isinstance(tags, list) or isinstance(tokens, list):
        return isinstance(tags, list)
    try:
        return bool([_place(each, len(str(tokens))) for each in tags])
    except MarkError:
        return False


def text_key(values: Mapping[str, Any], columns: Columns) -> str:
    """Return the column that holds the text or the tokens."""
    return TOKENS if columns.text not in values and TOKENS in values else columns.text


def _cells(values: Mapping[str, Any], columns: Columns) -> tuple[Any, Any]:
    text = text_key(values, columns)
    label = TAGS if text == TOKENS and columns.label not in values else columns.label
    return values.get(text), values.get(label)


def _of_tokens(tokens: list[Any], tags: Any) -> TaggedRow:
    text, starts = _joined(tokens)
    if tags is None:
        return TaggedRow(text, None)
    if not isinstance(tags, list) or len(tags) != len(tokens):
        found = f"{len(tags)} tags" if isinstance(tags, list) else "no list of tags"
        raise MarkError(f"{found} for {len(tokens)} tokens")
    for tag in tags:
        if not isinstance(tag, str) or not (tag == OUTSIDE or (tag[:2] in ("B-", "I-") and tag[2:])):
            raise MarkError(f"the tag {str(tag)[:40]!r} is not O, B-label or I-label")
    ends = [start + len(clean(token)) for start, token in zip(starts, tokens, strict=True)]
    places = [Place(starts[start], ends[end - 1], label) for start, end, label in spans_of(tags)]
    spans, widened = spans_in(text, places)
    return _row(text, spans, widened)


def _joined(tokens: list[Any]) -> tuple[str, list[int]]:
    """Return tokens as a text, with spaces but between characters of a script without them, and where each begins."""
    if not all(isinstance(token, str) and clean(token) for token in tokens) or not tokens:
        raise MarkError("the tokens are not all strings with something in them")
    words = [clean(token) for token in tokens]
    gaps = ["" if unspaced(before[-1]) and unspaced(after[0]) else " " for before, after in pairwise(words)]
    starts, text = [], ""
    for gap, word in zip(["", *gaps], words, strict=True):
        starts.append(len(text) + len(gap))
        text += gap + word
    return text, starts


def _of_places(text: str, places: Sequence[Any]) -> TaggedRow:
    """Read spans in characters of the text as it stands in the file: marks keep their places when it is cleaned."""
    found = sorted(_place(each, len(text)) for each in places)
    for before, after in pairwise(found):
        if before.end > after.start:
            raise MarkError(f"the spans {before.start}-{before.end} and {after.start}-{after.end} overlap")
    marked = read_marks(clean(write_marks(text, [place._replace(label=str(n)) for n, place in enumerate(found)])))
    spans, widened = spans_in(marked.text, marked.places)
    named = (span._replace(label=found[int(span.label)].label) for span in spans)
    return _row(clean(marked.text), named, widened)


def _place(value: Any, size: int) -> Place:
    parts: Any = [value.get(key) for key in ("start", "end", "label")] if isinstance(value, dict) else value
    if not isinstance(parts, (list, tuple)) or [type(part) for part in parts] != [int, int, str]:
        raise MarkError('a span is neither [start, end, "label"] nor {"start", "end", "label"}, in characters')
    start, end, label = parts
    if not 0 <= start < end <= size:
        raise MarkError(f"the span {start}-{end} is no part of the text, which has {size} characters")
    return Place(start, end, label)
