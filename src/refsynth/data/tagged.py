"""A row of a task of spans as its text and the label of its spans: marks in the text, tokens with tags, places, or that label.

Knows nothing of the task's labels.
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
from refsynth.data.offsets import GivenSpan, places_of
from refsynth.data.schemes import is_scheme, spans_of_tags
from refsynth.data.source import ROW_LIMIT
from refsynth.data.text import clean

TOKENS, TAGS = "tokens", "tags"
"""Keys of a row that is a list of tokens with a list of tags, where the columns are not named."""

_TOKENS = (TOKENS, "words", "token", "Word", "Token")
_TAGS = ("label", TAGS, "ner_tags", "labels", "ner", "entities", "spans", "Tag")
"""Columns that are tried in turn where none is named."""


class TaggedRow(NamedTuple):
    """A text, its spans as one label, None where the row says nothing of them, and how many marks were widened to whole words."""

    text: str
    label: str | None
    widened: int = 0


class JoinedTokens(NamedTuple):
    """Tokens as a text, and where in it each of them begins."""

    text: str
    starts: list[int]


def read_tagged(values: Mapping[str, Any], columns: Columns) -> TaggedRow:
    """Return the text and the spans of a row.

    Raises:
        MarkError: its marks, tags or places cannot be read.
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
    return join_tokens(tokens).text if isinstance(tokens, list) else str(tokens)


def columns_of_words(values: Mapping[str, Any], columns: Columns, *, text: bool, label: bool) -> Columns | None:
    """Return the columns in which a row says labels of words beyond doubt, as tokens with tags or as places; None where none do.

    Args:
        values: the row.
        columns: what is known of them.
        text: whether the user named that of the text.
        label: whether the user named that of the label.
    """
    labels = (columns.label,) if label else (*_TAGS, *values)
    texts = (columns.text,) if text else (*_TOKENS, named_text(values) or columns.text)
    for one in dict.fromkeys(labels):
        for other in dict.fromkeys(texts):
            if one != other and one in values and other in values:
                tried = columns.model_copy(update={"text": other, "label": one})
                if _tells_words(*_cells(values, tried), named=bool(columns.tags) or label):
                    return tried
    return None


def _tells_words(tokens: Any, tags: Any, *, named: bool) -> bool:
    """Return whether a row is a list of tokens with as many tags, or a text with a list of places."""
    if not isinstance(tags, list):
        return False
    if isinstance(tokens, list):
        fitting = len(tokens) == len(tags) and all(isinstance(token, str) for token in tokens)
        numbers = all(type(tag) is int for tag in tags)
        return fitting and bool(tags) and (is_scheme(tags) or numbers or named or all(isinstance(tag, str) for tag in tags))
    try:
        return isinstance(tokens, str) and bool([_said(each) for each in tags])
    except MarkError:
        return False


def text_key(values: Mapping[str, Any], columns: Columns) -> str:
    """Return the column that holds the text or the tokens."""
    return TOKENS if columns.text not in values and TOKENS in values else columns.text


def _cells(values: Mapping[str, Any], columns: Columns) -> tuple[Any, Any]:
    """Return the text or the tokens, and the labels; lists that stand in cells as JSON, or as Python writes them, as lists."""
    text = text_key(values, columns)
    label = TAGS if text == TOKENS and columns.label not in values else columns.label
    tokens, tags = values.get(text), _listed(values.get(label))
    if isinstance(tags, list) and isinstance(tokens, str):
        found = _listed(tokens)
        if isinstance(found, list) and len(found) == len(tags) and all(isinstance(token, str) for token in found):
            tokens = found
    return tokens, tags


def _listed(cell: Any) -> Any:
    """Return the list that a cell holds; any other cell as it is."""
    if not isinstance(cell, str) or not cell.startswith("["):
        return cell
    found = printed(cell.strip(), longest=ROW_LIMIT)
    return found if isinstance(found, list) else cell


def read_tokens(tokens: list[Any], tags: Any, columns: Columns) -> TaggedRow:
    """Read tokens with a tag each; without tags nothing is said of them.

    Raises:
        MarkError: the tags are not as many, or are of no scheme that is known here.
    """
    text, starts = join_tokens(tokens)
    if tags is None:
        return TaggedRow(text, None)
    if not isinstance(tags, list) or len(tags) != len(tokens):
        found = f"{len(tags)} tags" if isinstance(tags, list) else "no list of tags"
        raise MarkError(f"{found} for {len(tokens)} tokens")
    ends = [start + len(clean(token)) for start, token in zip(starts, tokens, strict=True)]
    places = [MarkedPlace(starts[start], ends[end - 1], label) for start, end, label in spans_of_tags(tags, columns.tags)]
    spans, widened = spans_in(text, places)
    return _row(text, spans, widened)


def join_tokens(tokens: Sequence[Any]) -> JoinedTokens:
    """Return tokens as a text, with spaces but between characters of a script without them, and where each begins.

    Raises:
        MarkError: there are none, or one of them is no string or an empty one.
    """
    if not all(isinstance(token, str) and clean(token) for token in tokens) or not tokens:
        raise MarkError("the tokens are not all strings with something in them")
    words = [clean(token) for token in tokens]
    gaps = ["" if unspaced(before[-1]) and unspaced(after[0]) else " " for before, after in pairwise(words)]
    starts, text = [], ""
    for gap, word in zip(["", *gaps], words, strict=True):
        starts.append(len(text) + len(gap))
        text += gap + word
    return JoinedTokens(text, starts)


def read_places(text: str, places: Sequence[Any], columns: Columns) -> TaggedRow:
    """Read spans in the text as it stands in the file: marks keep their places when it is cleaned.

    Raises:
        MarkError: something is no span, lies outside the text, or overlaps with another.
    """
    found = places_of(text, [_said(each) for each in places], columns.offsets)
    for before, after in pairwise(found):
        if before.end > after.start:
            raise MarkError(f"the spans {before.start}-{before.end} and {after.start}-{after.end} overlap")
    marked = read_marks(clean(write_marks(text, [place._replace(label=str(n)) for n, place in enumerate(found)])))
    spans, widened = spans_in(marked.text, marked.places)
    named = (span._replace(label=found[int(span.label)].label) for span in spans)
    return _row(clean(marked.text), named, widened)


_START, _END = ("start", "start_offset", "begin"), ("end", "end_offset")
_LABEL, _OWN = ("label", "labels", "entity_group", "entity", "type"), ("text", "word")


def _said(value: Any) -> GivenSpan:
    own = None
    if isinstance(value, dict):
        parts: list[Any] = [next((value[key] for key in keys if key in value), None) for keys in (_START, _END, _LABEL)]
        own = next((value[key] for key in _OWN if isinstance(value.get(key), str)), None)
        if isinstance(parts[2], list):
            if len(parts[2]) != 1:
                raise MarkError(f"a span with {len(parts[2])} labels ({', '.join(map(str, parts[2]))}): here it has one")
            parts[2] = parts[2][0]
    else:
        parts = list(value) if isinstance(value, (list, tuple)) else []
    if [type(part) for part in parts] != [int, int, str]:
        raise MarkError('a span is neither [start, end, "label"] nor {"start", "end", "label"} with whole numbers')
    start, end, label = parts
    return GivenSpan(start, end, label, own)
