"""Reads a row of token classification as its text and one label for all its spans.

The row has marks in the text, tokens with tags, offsets, or already such a label. Knows nothing of the task's labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from refsynth.core.labelset import NONE
from refsynth.core.marks import MarkedPlace, MarkError, read_marks, spans_in, write_marks
from refsynth.core.sections import Columns
from refsynth.core.spans import Span, join_spans, names_in, split_spans, unfit_name
from refsynth.core.words import unspaced, words_of
from refsynth.data.columns import named_text
from refsynth.data.labels import printed
from refsynth.data.offsets import FileSpan, places_of
from refsynth.data.schemes import is_scheme, spans_of_tags
from refsynth.data.source import ROW_LIMIT
from refsynth.data.text import clean

TOKENS, TAGS = "tokens", "tags"
"""Default keys of a row with a list of tokens and a list of tags."""

_TOKENS = (TOKENS, "words", "token", "Word", "Token")
_TAGS = ("label", TAGS, "ner_tags", "labels", "ner", "entities", "spans", "Tag")
"""Columns that are tried in this order if the user named none."""


class TaggedRow(NamedTuple):
    """A text, its spans as one label (None if the row has none), and the number of marks that were widened to whole words."""

    text: str
    label: str | None
    widened: int = 0


class JoinedTokens(NamedTuple):
    """Tokens as one text, and the position at which each begins."""

    text: str
    starts: list[int]


def read_tagged(values: Mapping[str, Any], columns: Columns) -> TaggedRow:
    """Return the text and the spans of a row.

    Raises:
        MarkError: its marks, tags or offsets cannot be read.
    """
    tokens, tags = _cells(values, columns)
    if isinstance(tokens, list):
        return read_tokens(tokens, tags, columns)
    if isinstance(tags, list):
        return read_places(str(tokens), tags, columns)
    if isinstance(tags, str) and (tags == NONE or names_in(tags) != (tags,)):
        return _of_words(clean(str(tokens)), tags)
    if tags not in (None, ""):
        raise MarkError(f"'{columns.label}' is neither a list of tags nor of spans; marks stand in the text: [words](label)")
    marked = read_marks(clean(str(tokens)))
    spans, widened = spans_in(marked.text, marked.places)
    return _row(clean(marked.text), spans, widened)


def _row(text: str, spans: Iterable[Span], widened: int = 0) -> TaggedRow:
    """Return the row; raise `MarkError` if a label's name cannot be joined with positions."""
    spans = list(spans)
    wrong = next((span.label for span in spans if unfit_name(span.label)), None)
    if wrong is not None:
        raise MarkError(f"the label {wrong[:40]!r}: expected a name without spaces, brackets, colons and backslashes")
    return TaggedRow(text, join_spans(spans), widened)


def _of_words(text: str, label: str) -> TaggedRow:
    """Read spans that count words, as the server records them."""
    spans = split_spans(label)
    words = len(words_of(text))
    outside = any(span.start >= span.end or span.end > words for span in spans)
    if outside or any(before.end > after.start for before, after in pairwise(spans)):
        raise MarkError(f"the spans {label[:40]!r} do not fit a text of {words} words")
    return _row(text, spans)


def read_plain(values: Mapping[str, Any], columns: Columns) -> str:
    """Return the text of a row, or its tokens as a text; brackets stay as they are.

    Raises:
        MarkError: the tokens are not strings.
    """
    tokens, _ = _cells(values, columns)
    return join_tokens(tokens).text if isinstance(tokens, list) else str(tokens)


def columns_of_words(values: Mapping[str, Any], columns: Columns, *, text: bool, label: bool) -> Columns | None:
    """Return the columns that clearly hold labels of words, as tokens with tags or as offsets; None if there are none.

    Args:
        values: the row.
        columns: the columns known so far.
        text: whether the user named the text column.
        label: whether the user named the label column.
    """
    labels = (columns.label,) if label else (*_TAGS, *values)
    texts = (columns.text,) if text else (*_TOKENS, named_text(values) or columns.text)
    for label_name in dict.fromkeys(labels):
        for text_name in dict.fromkeys(texts):
            if label_name != text_name and label_name in values and text_name in values:
                candidate = columns.model_copy(update={"text": text_name, "label": label_name})
                if _has_word_labels(*_cells(values, candidate), named=bool(columns.tags) or label):
                    return candidate
    return None


def _has_word_labels(tokens: Any, tags: Any, *, named: bool) -> bool:
    """Return whether a row is a list of tokens with as many tags, or a text with a list of spans."""
    if not isinstance(tags, list):
        return False
    if isinstance(tokens, list):
        fitting = len(tokens) == len(tags) and all(isinstance(token, str) for token in tokens)
        numbers = all(type(tag) is int for tag in tags)
        return fitting and bool(tags) and (is_scheme(tags) or numbers or named or all(isinstance(tag, str) for tag in tags))
    try:
        return isinstance(tokens, str) and bool([_file_span(tag) for tag in tags])
    except MarkError:
        return False


def text_key(values: Mapping[str, Any], columns: Columns) -> str:
    """Return the column with the text or the tokens."""
    return TOKENS if columns.text not in values and TOKENS in values else columns.text


def _cells(values: Mapping[str, Any], columns: Columns) -> tuple[Any, Any]:
    """Return the text or the tokens, and the labels. A list printed into a cell by JSON or Python is read as a list."""
    text = text_key(values, columns)
    label = TAGS if text == TOKENS and columns.label not in values else columns.label
    tokens, tags = values.get(text), _listed(values.get(label))
    if isinstance(tags, list) and isinstance(tokens, str):
        items = _listed(tokens)
        if isinstance(items, list) and len(items) == len(tags) and all(isinstance(token, str) for token in items):
            tokens = items
    return tokens, tags


def _listed(cell: Any) -> Any:
    """Return the list printed into a cell; any other cell unchanged."""
    if not isinstance(cell, str) or not cell.startswith("["):
        return cell
    items = printed(cell.strip(), longest=ROW_LIMIT)
    return items if isinstance(items, list) else cell


def read_tokens(tokens: list[Any], tags: Any, columns: Columns) -> TaggedRow:
    """Read tokens with one tag each; without tags, the row has no label.

    Raises:
        MarkError: the tags are not as many as the tokens, or follow no known scheme.
    """
    text, starts = join_tokens(tokens)
    if tags is None:
        return TaggedRow(text, None)
    if not isinstance(tags, list) or len(tags) != len(tokens):
        count = f"{len(tags)} tags" if isinstance(tags, list) else "no list of tags"
        raise MarkError(f"{count} for {len(tokens)} tokens")
    ends = [start + len(clean(token)) for start, token in zip(starts, tokens, strict=True)]
    places = [MarkedPlace(starts[start], ends[end - 1], label) for start, end, label in spans_of_tags(tags, columns.tags)]
    spans, widened = spans_in(text, places)
    return _row(text, spans, widened)


def join_tokens(tokens: Sequence[Any]) -> JoinedTokens:
    """Return tokens as one text, joined by spaces except between characters of a script without spaces.

    Raises:
        MarkError: there are no tokens, or one is empty or not a string.
    """
    if not all(isinstance(token, str) and clean(token) for token in tokens) or not tokens:
        raise MarkError("the tokens are not all non-empty strings")
    words = [clean(token) for token in tokens]
    gaps = ["" if unspaced(before[-1]) and unspaced(after[0]) else " " for before, after in pairwise(words)]
    starts, text = [], ""
    for gap, word in zip(["", *gaps], words, strict=True):
        starts.append(len(text) + len(gap))
        text += gap + word
    return JoinedTokens(text, starts)


def read_places(text: str, spans: Sequence[Any], columns: Columns) -> TaggedRow:
    """Read spans in the uncleaned text of a file: written as marks, they keep their places when the text is cleaned.

    Raises:
        MarkError: an item is not a span, or a span lies outside the text or overlaps another.
    """
    places = places_of(text, [_file_span(span) for span in spans], columns.offsets)
    for before, after in pairwise(places):
        if before.end > after.start:
            raise MarkError(f"the spans {before.start}-{before.end} and {after.start}-{after.end} overlap")
    marked = read_marks(clean(write_marks(text, [place._replace(label=str(n)) for n, place in enumerate(places)])))
    numbered, widened = spans_in(marked.text, marked.places)
    named = (span._replace(label=places[int(span.label)].label) for span in numbered)
    return _row(clean(marked.text), named, widened)


_START, _END = ("start", "start_offset", "begin"), ("end", "end_offset")
_LABEL, _OWN = ("label", "labels", "entity_group", "entity", "type"), ("text", "word")


def _file_span(value: Any) -> FileSpan:
    own = None
    if isinstance(value, dict):
        parts: list[Any] = [next((value[key] for key in keys if key in value), None) for keys in (_START, _END, _LABEL)]
        own = next((value[key] for key in _OWN if isinstance(value.get(key), str)), None)
        if isinstance(parts[2], list):
            if len(parts[2]) != 1:
                raise MarkError(f"a span with {len(parts[2])} labels ({', '.join(map(str, parts[2]))}), expected one")
            parts[2] = parts[2][0]
    else:
        parts = list(value) if isinstance(value, (list, tuple)) else []
    if [type(part) for part in parts] != [int, int, str]:
        raise MarkError('a span is neither [start, end, "label"] nor {"start", "end", "label"} with whole numbers')
    start, end, label = parts
    return FileSpan(start, end, label, own)
