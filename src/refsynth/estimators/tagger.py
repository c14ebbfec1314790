"""TokenTagger: labeled spans of words in a text."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from refsynth.bundle.model import Answered
from refsynth.core.errors import ArgumentError
from refsynth.core.labelset import NONE
from refsynth.core.marks import MarkError, places_in
from refsynth.core.sections import Columns
from refsynth.core.spans import Span, split_spans, tags_of
from refsynth.core.types import Array, Entity
from refsynth.data.arguments import filled, same_length
from refsynth.data.frame import cells_of
from refsynth.data.tagged import JoinedTokens, TaggedRow, join_tokens, read_places, read_tokens
from refsynth.data.text import clean
from refsynth.estimators.base import TextEstimator
from refsynth.estimators.rows import FitRows
from refsynth.kinds import SPANS
from refsynth.kinds.kind import Counts
from refsynth.kinds.spans import count

TAGS, SPANS_GIVEN = "tags", "spans"
_CHARACTERS = Columns(offsets="characters")


class TokenTagger(TextEstimator):
    """A model that finds spans of words and labels them: names, places, part numbers.

    X [N] are texts, or lists of words. For a list of words y has one tag per word (BIO, BIOES, BILOU, names alone), or spans
    `(first word, word after the last, label)`; for a text it has spans `(start, end, label)` in characters. Predictions have the
    form of y, with tags in BIO. A fit takes minutes and logs its progress to the logger `refsynth`.

        tagger = refsynth.TokenTagger().fit([["Ann", "Lee", "sat"], ...], [["B-person", "I-person", "O"], ...])
        tagger.predict([["Bo", "Li", "stood"]])

    Further keys of `task.yaml` go into `settings`, as in `settings={"learners": ["crf"]}`.

    Attributes:
        classes_: the K labels of spans, sorted.
        model_: the bundle that ships, a `refsynth.Model`; its predictions have a confidence for each span.
        report_: the evidence, a `refsynth.Report`.
    """

    _task = "tokens"

    def _fit_rows(self, X: Any, y: Any) -> FitRows:
        cells, marks = _cells_of(X), _listed(y)
        filled(_joined(cells))
        rows = _read(cells, marks)
        labels = [[span.label for span in split_spans(row.label or NONE)] for row in rows]
        form = TAGS if any(isinstance(mark, str) for row in marks for mark in row) else SPANS_GIVEN
        return FitRows([{"text": row.text, "label": row.label} for row in rows], labels, form)

    def _classes(self, labels: list[Any]) -> Array:
        if not labels:
            raise ArgumentError("y: found no span", expected="spans of at least one label (class)")
        return np.unique(labels)

    def _texts(self, X: Any) -> list[str]:
        return _joined(_cells_of(X))

    def _as_given(self, X: Any, predicted: Answered) -> list[list[Any]]:
        spans = [split_spans(label) for label in self._named(predicted)]
        return [
            [tuple(place) for place in places_in(cell, one)] if isinstance(cell, str) else self._of_words(cell, one)
            for cell, one in zip(_cells_of(X), spans, strict=True)
        ]

    def _of_words(self, words: list[str], spans: Sequence[Span]) -> list[Any]:
        """Return the spans of a text as tags or spans of the caller's own words."""
        own = _spans_of_tokens(join_tokens(words), words, spans)
        return tags_of(own, len(words)) if self._form == TAGS else [tuple(span) for span in own]

    def _score(self, X: Any, y: Any, predicted: Answered, weights: Array) -> float:
        """Return the F1 over all spans: a span is correct if its first word, its last word and its label are."""
        truth = [row.label or NONE for row in _read(_cells_of(X), _listed(y))]
        counts = count(np.array(truth, object), np.array(self._named(predicted), object))
        return Counts(*(part * weights for part in counts)).f1()

    def _named(self, predicted: Answered) -> list[str]:
        return [SPANS.shown(answer, self.model_.labels) for answer in predicted.answers]


def _cells_of(X: Any) -> list[str | list[str]]:
    """Return texts, or lists of words [N].

    Raises:
        ArgumentError: an item is neither, or X mixes both.
    """
    cells = [list(cell) if isinstance(cell, tuple) else cell for cell in cells_of(X, "X")]
    expected = "a text, or a list of words"
    for place, cell in enumerate(cells):
        if not isinstance(cell, (str, list)):
            raise ArgumentError(f"X[{place}]: found {type(cell).__name__}", expected=expected)
        if type(cell) is not type(cells[0]):
            raise ArgumentError("X: found texts and lists of words", expected="one of both")
        if isinstance(cell, list):
            odd = next((at for at, word in enumerate(cell) if not isinstance(word, str) or not clean(word)), None)
            if odd is not None or not cell:
                found = "no words" if odd is None else f"'{cell[odd]}' in place of word {odd}"
                raise ArgumentError(f"X[{place}]: found {found}", expected="words with something in them")
    return cells


def _joined(cells: Sequence[str | list[str]]) -> list[str]:
    return [cell if isinstance(cell, str) else join_tokens(cell).text for cell in cells]


def _listed(y: Any) -> list[list[Any]]:
    """Return the tags or spans of each row [N].

    Raises:
        ArgumentError: an item is not a list.
    """
    cells = cells_of(y, "y")
    for place, cell in enumerate(cells):
        if not isinstance(cell, (list, tuple)):
            raise ArgumentError(f"y[{place}]: found {type(cell).__name__}", expected="a list of tags, or of spans; [] for none")
    return [list(cell) for cell in cells]


def _read(cells: Sequence[str | list[str]], marks: Sequence[list[Any]]) -> list[TaggedRow]:
    """Return texts with their spans [N].

    Raises:
        ArgumentError: X and y differ in length; or tags, or places of spans, do not fit the words.
    """
    same_length(len(cells), marks)
    rows = []
    for place, (cell, own) in enumerate(zip(cells, marks, strict=True)):
        try:
            rows.append(_of_text(cell, own) if isinstance(cell, str) else _of_tokens(cell, own))
        except MarkError as error:
            raise ArgumentError(f"y[{place}]: {error}", expected="a tag for each word, or spans (start, end, label)") from error
    return rows


def _of_text(text: str, marks: list[Any]) -> TaggedRow:
    if any(isinstance(mark, (str, int)) for mark in marks):
        raise MarkError("tags, where X has a text; write it as a list of words: text.split()")
    return read_places(text, [list(span) for span in _spans(marks, len(text), "characters")], _CHARACTERS)


def _of_tokens(words: list[str], marks: list[Any]) -> TaggedRow:
    if any(isinstance(mark, (int, np.integer)) for mark in marks):
        raise MarkError("tags that are numbers; write their names: [[names[tag] for tag in tags] for tags in y]")
    if not any(isinstance(mark, str) for mark in marks):
        marks = tags_of(_spans(marks, len(words), "words"), len(words))
    return read_tokens(words, marks, _CHARACTERS)


def _spans(marks: Sequence[Any], n: int, unit: str) -> list[Span]:
    """Return spans in order.

    Raises:
        MarkError: an item is not a span or lies outside the `n` words or characters, or two overlap.
    """
    spans = sorted(_span(mark) for mark in marks)
    if (wrong := next((span for span in spans if not 0 <= span.start < span.end <= n), None)) is not None:
        raise MarkError(f"the span {wrong.start}-{wrong.end} is no part of {n} {unit}")
    for one, two in pairwise(spans):
        if one.end > two.start:
            raise MarkError(f"the spans {one.start}-{one.end} and {two.start}-{two.end} overlap")
    return spans


def _span(mark: Any) -> Span:
    """Return a span; the confidence of a predicted one is dropped, so that predictions can be training labels."""
    parts = [mark.get(key) for key in ("start", "end", "label")] if isinstance(mark, dict) else mark
    parts = parts[:3] if isinstance(parts, Entity) else parts
    if not isinstance(parts, (list, tuple)) or [type(part) for part in parts] != [int, int, str]:
        raise MarkError('a span is neither (start, end, "label") nor {"start", "end", "label"} with whole numbers')
    return Span(*parts)


def _spans_of_tokens(joined: JoinedTokens, words: Sequence[str], spans: Sequence[Span]) -> list[Span]:
    """Return spans of words of the joined text as spans of the tokens it was joined from; no token is in two spans."""
    ends = [start + len(clean(word)) for start, word in zip(joined.starts, words, strict=True)]
    result: list[Span] = []
    for place in places_in(joined.text, spans):
        inside = [at for at, start in enumerate(joined.starts) if start < place.end and ends[at] > place.start]
        if inside and (not result or result[-1].end <= inside[0]):
            result.append(Span(inside[0], inside[-1] + 1, place.label))
    return result
