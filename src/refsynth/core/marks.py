"""Entities marked in a text: `[Ann Lee](person) lives in [Oslo](place)`. A backslash before a bracket makes it a plain one.

Rows of files, prompts and drafts use the same marks. A bracket without `(` after it is plain too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from refsynth.core.spans import Span
from refsynth.core.words import words_of

_ESCAPED = "[]()\\"


class MarkError(ValueError):
    """Marks that cannot be read; the message says where."""


class MarkedPlace(NamedTuple):
    """The characters from `start` up to but not including `end`, and their label."""

    start: int
    end: int
    label: str


class MarkedText(NamedTuple):
    """A text without its marks, and the marked places. `loose` says that the text holds brackets that are not marks."""

    text: str
    places: tuple[MarkedPlace, ...]
    loose: bool = False


class Tagged(NamedTuple):
    """Spans of the words of a text, and how many of them were marked to end inside a word and now hold all of it."""

    spans: tuple[Span, ...]
    widened: int


def read_marks(text: str) -> MarkedText:
    """Return a text and its marks, separated.

    Raises:
        MarkError: a mark is not closed, empty, or inside another.
    """
    out: list[str] = []
    opened: list[int] = []
    places: list[MarkedPlace] = []
    at, loose = 0, False
    while at < len(text):
        character = text[at]
        if character == "\\" and text[at + 1 : at + 2] and text[at + 1] in _ESCAPED:
            out.append(text[at + 1])
            at += 2
            continue
        if character == "[":
            opened.append(len(out))
        elif character == "]" and text[at + 1 : at + 2] == "(":
            end = text.find(")", at)
            places.append(_closed(opened, out, places, text[at + 2 : max(end, 0)].strip(), at + 1))
            at = end + 1
            continue
        elif character == "]" and opened:
            opened.pop()
        loose |= character == "]"
        out.append(character)
        at += 1
    return MarkedText("".join(out), tuple(places), loose or bool(opened))


def _closed(opened: list[int], out: list[str], places: list[MarkedPlace], label: str, at: int) -> MarkedPlace:
    """Return the mark that ends here, and remove its bracket from the text."""
    if not label:
        raise MarkError(f"the mark that ends at character {at} has no label, or no closing ')': expected [words](label)")
    if not opened:
        raise MarkError(f"a mark ends at character {at}, and none begins before it: expected [words](label)")
    start = opened.pop()
    if any(place.end > start for place in places):
        raise MarkError(f"the mark that ends at character {at} holds another mark")
    del out[start]
    if not "".join(out[start:]).strip():
        raise MarkError(f"the mark that ends at character {at} is empty")
    return MarkedPlace(start, len(out), label)


def write_marks(text: str, places: Iterable[MarkedPlace]) -> str:
    """Return the text with its marks; `read_marks` turns it back into both."""
    parts, at = [], 0
    for start, end, label in sorted(places):
        parts += [plain(text[at:start]), "[", plain(text[start:end]), f"]({label})"]
        at = end
    return "".join([*parts, plain(text[at:])])


def plain(text: str) -> str:
    """Return the text with its brackets escaped, so that none can be taken for a mark."""
    return "".join("\\" + character if character in "[]\\" else character for character in text)


def spans_in(text: str, places: Iterable[MarkedPlace]) -> Tagged:
    """Return the marked places as spans of the text's words; a mark that ends inside a word takes all of it.

    Raises:
        MarkError: a mark has no word, lies outside the text, or overlaps with another.
    """
    words = words_of(text)
    spans: list[Span] = []
    widened = 0
    for start, end, label in sorted(places):
        if not 0 <= start < end <= len(text):
            raise MarkError(f"the span {start}-{end} is no part of the text, which has {len(text)} characters")
        inside = range(
            bisect_right(words, start, key=lambda word: word.end), bisect_left(words, end, key=lambda word: word.start)
        )
        if not inside:
            raise MarkError(f"the span {start}-{end} holds no word")
        if spans and spans[-1].end > inside[0]:
            raise MarkError(f"the span {start}-{end} overlaps with another, in words {inside[0] + 1} to {spans[-1].end}")
        widened += words[inside[0]].start < start or words[inside[-1]].end > end
        spans.append(Span(inside[0], inside[-1] + 1, label))
    return Tagged(tuple(spans), widened)


def places_in(text: str, spans: Iterable[Span]) -> tuple[MarkedPlace, ...]:
    """Return spans of the text's words as places in the text."""
    words = words_of(text)
    return tuple(MarkedPlace(words[start].start, words[end - 1].end, label) for start, end, label in spans)
