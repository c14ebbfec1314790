"""Converts the offsets of spans to characters from UTF-16 units (as in JavaScript) or UTF-8 bytes. Knows nothing of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

from refsynth.core.marks import MarkedPlace, MarkError
from refsynth.core.words import words_of
from refsynth.data.text import clean

Unit = Literal["characters", "utf16", "bytes"]
"""The unit of offsets."""

_SHOWN: dict[Unit, str] = {"characters": "in characters", "utf16": "in UTF-16 units", "bytes": "in bytes"}


class FileSpan(NamedTuple):
    """A span as it stands in a file: from `start` up to but not including `end` in some unit, and its text if the file has it."""

    start: int
    end: int
    label: str
    own: str | None


class UnitError(MarkError):
    """Spans that fit the words of their text in another unit than characters, which only the user can confirm."""

    def __init__(self, message: str, unit: Unit) -> None:
        super().__init__(message)
        self.unit = unit


def places_of(text: str, spans: Sequence[FileSpan], unit: Unit | None) -> list[MarkedPlace]:
    """Return spans in characters, in the order of the text.

    Args:
        text: as it stands in the file.
        spans: the spans of the file.
        unit: the unit of their offsets. None takes the first unit in which all spans match their own texts. If they have none,
            it takes characters, unless these cut words and another unit does not.

    Raises:
        UnitError: another unit is more likely than characters.
        MarkError: spans lie outside the text, or do not match their own texts.
    """
    if unit is not None:
        places = _converted(text, spans, unit)
        if places is None or not _matches(text, spans, places):
            raise MarkError(_mismatch(text, spans, (unit,)))
        return sorted(places)
    readings = {name: places for name in get_args(Unit) if (places := _converted(text, spans, name)) is not None}
    if any(span.own is not None for span in spans):
        matching = next((places for places in readings.values() if _matches(text, spans, places)), None)
        if matching is None:
            raise MarkError(_mismatch(text, spans, get_args(Unit)))
        return sorted(matching)
    usual = readings.get("characters")
    if usual is not None and _fits_words(text, usual):
        return sorted(usual)
    better = next((name for name, places in readings.items() if _fits_words(text, places)), None)
    if better is not None:
        raise UnitError(_doubt(text, spans, better), better)
    if usual is None:
        wrong = next(span for span in spans if not 0 <= span.start < span.end <= len(text))
        raise MarkError(f"the span {wrong.start}-{wrong.end} is no part of the text, which has {len(text)} characters")
    return sorted(usual)


def _converted(text: str, spans: Iterable[FileSpan], unit: Unit) -> list[MarkedPlace] | None:
    """Return spans in characters; None if one begins or ends inside a character, or lies outside the text."""
    if unit == "characters" or text.isascii():
        at = {place: place for span in spans for place in span[:2] if 0 <= place <= len(text)}
    else:
        coding = "utf-16-le" if unit == "utf16" else "utf-8"
        sizes = (len(character.encode(coding, "surrogatepass")) // (2 if unit == "utf16" else 1) for character in text)
        at = {units: place for place, units in enumerate(accumulate(sizes, initial=0))}
    places = []
    for start, end, label, _ in spans:
        if start not in at or end not in at or start >= end:
            return None
        places.append(MarkedPlace(at[start], at[end], label))
    return places


def _matches(text: str, spans: Sequence[FileSpan], places: Sequence[MarkedPlace]) -> bool:
    r"""Return whether each span's own text stands at its place. Some tools write a line end as `\n` in two characters."""
    return all(
        span.own is None or clean(span.own.replace("\\n", "\n")) == clean(text[place.start : place.end].replace("\\n", "\n"))
        for span, place in zip(spans, places, strict=True)
    )


def _fits_words(text: str, places: Iterable[MarkedPlace]) -> bool:
    """Return whether each span, stripped of spaces, begins and ends at the ends of words."""
    words = words_of(text)
    starts, ends = {word.start for word in words}, {word.end for word in words}
    for start, end, _ in places:
        inner = text[start:end]
        first, last = start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())
        if first >= last or first not in starts or last not in ends:
            return False
    return True


def _quoted(text: str, span: FileSpan, unit: Unit) -> str:
    place = _converted(text, [span], unit)
    return f"{_SHOWN[unit]} {'nothing' if place is None else repr(text[place[0].start : place[0].end][:40])}"


def _mismatch(text: str, spans: Sequence[FileSpan], units: Sequence[Unit]) -> str:
    """Return what is wrong with the first span that matches its own text in none of the units."""

    def matches(span: FileSpan) -> bool:
        readings = (_converted(text, [span], unit) for unit in units)
        return any(places is not None and _matches(text, [span], places) for places in readings)

    wrong = next((span for span in spans if not matches(span)), None)
    if wrong is None:
        return "the spans match their own texts in different units: some count characters, some do not"
    own = "" if wrong.own is None else f" has the text {wrong.own[:40]!r}, and"
    return f"the span {wrong.start}-{wrong.end}{own} is " + ", ".join(_quoted(text, wrong, unit) for unit in units)


def _doubt(text: str, spans: Sequence[FileSpan], better: Unit) -> str:
    def cuts_words(span: FileSpan) -> bool:
        usual = _converted(text, [span], "characters")
        return usual is None or not _fits_words(text, usual)

    wrong = next(span for span in spans if cuts_words(span))
    return (
        f"the span {wrong.start}-{wrong.end} is {_quoted(text, wrong, 'characters')} but {_quoted(text, wrong, better)}: "
        f"say which it is, data.columns.offsets: {better} or characters"
    )
