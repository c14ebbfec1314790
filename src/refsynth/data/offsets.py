"""Where a span is: in characters, in UTF-16 units as JavaScript counts, or in bytes of UTF-8. Knows nothing of a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple, get_args

from refsynth.core.marks import MarkedPlace, MarkError
from refsynth.core.words import words_of
from refsynth.data.text import clean

Unit = Literal["characters", "utf16", "bytes"]
"""What places are counted in."""

_SHOWN: dict[Unit, str] = {"characters": "in characters", "utf16": "in UTF-16 units", "bytes": "in bytes"}


class GivenSpan(NamedTuple):
    """A span as a file has it: from `start` up to but not including `end` in some unit, and its own text where that is there."""

    start: int
    end: int
    label: str
    own: str | None


class UnitError(MarkError):
    """Spans that fit the words of their text in another unit than characters; nothing else decides between the two."""

    def __init__(self, message: str, unit: Unit) -> None:
        super().__init__(message)
        self.unit = unit


def places_of(text: str, said: Sequence[GivenSpan], unit: Unit | None) -> list[MarkedPlace]:
    """Return spans in characters, in the order of the text.

    Args:
        text: as it stands in the file.
        said: the spans.
        unit: what they are counted in. None takes the first unit in which each span's own text is found; without any they are
            characters, unless these cut words and another unit does not.

    Raises:
        UnitError: they are more likely in another unit.
        MarkError: they lie outside the text, or the texts that spans have of their own are not there.
    """
    if unit is not None:
        found = _converted(text, said, unit)
        if found is None or not _own(text, said, found):
            raise MarkError(_mismatch(text, said, (unit,)))
        return sorted(found)
    readings = {each: found for each in get_args(Unit) if (found := _converted(text, said, each)) is not None}
    if any(one.own is not None for one in said):
        fitting = next((found for found in readings.values() if _own(text, said, found)), None)
        if fitting is None:
            raise MarkError(_mismatch(text, said, get_args(Unit)))
        return sorted(fitting)
    usual = readings.get("characters")
    if usual is not None and _neat(text, usual):
        return sorted(usual)
    better = next((each for each, found in readings.items() if _neat(text, found)), None)
    if better is not None:
        raise UnitError(_doubt(text, said, better), better)
    if usual is None:
        wrong = next(one for one in said if not 0 <= one.start < one.end <= len(text))
        raise MarkError(f"the span {wrong.start}-{wrong.end} is no part of the text, which has {len(text)} characters")
    return sorted(usual)


def _converted(text: str, said: Iterable[GivenSpan], unit: Unit) -> list[MarkedPlace] | None:
    """Return spans in characters; None where one begins or ends inside a character, or lies outside the text."""
    if unit == "characters" or text.isascii():
        at = {place: place for one in said for place in one[:2] if 0 <= place <= len(text)}
    else:
        coding = "utf-16-le" if unit == "utf16" else "utf-8"
        sizes = (len(character.encode(coding, "surrogatepass")) // (2 if unit == "utf16" else 1) for character in text)
        at = {units: place for place, units in enumerate(accumulate(sizes, initial=0))}
    places = []
    for start, end, label, _ in said:
        if start not in at or end not in at or start >= end:
            return None
        places.append(MarkedPlace(at[start], at[end], label))
    return places


def _own(text: str, said: Sequence[GivenSpan], places: Sequence[MarkedPlace]) -> bool:
    """Return whether each span's own text stands in its place. Some tools write a line's end as a backslash and an n."""
    return all(
        one.own is None or clean(one.own.replace("\\n", "\n")) == clean(text[place.start : place.end].replace("\\n", "\n"))
        for one, place in zip(said, places, strict=True)
    )


def _neat(text: str, places: Iterable[MarkedPlace]) -> bool:
    """Return whether each span, without its margin, begins where a word does and ends where one does."""
    words = words_of(text)
    starts, ends = {word.start for word in words}, {word.end for word in words}
    for start, end, _ in places:
        inner = text[start:end]
        first, last = start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip())
        if first >= last or first not in starts or last not in ends:
            return False
    return True


def _read(text: str, one: GivenSpan, unit: Unit) -> str:
    place = _converted(text, [one], unit)
    return f"{_SHOWN[unit]} {'nothing' if place is None else repr(text[place[0].start : place[0].end][:40])}"


def _mismatch(text: str, said: Sequence[GivenSpan], units: Sequence[Unit]) -> str:
    """Return what is wrong with the first span that fits in none of the units."""

    def fits(one: GivenSpan) -> bool:
        found = (_converted(text, [one], unit) for unit in units)
        return any(each is not None and _own(text, [one], each) for each in found)

    one = next((one for one in said if not fits(one)), None)
    if one is None:
        return "the spans' own texts are found in different units: some count characters, some do not"
    says = "" if one.own is None else f" says {one.own[:40]!r}, and"
    return f"the span {one.start}-{one.end}{says} is " + ", ".join(_read(text, one, unit) for unit in units)


def _doubt(text: str, said: Sequence[GivenSpan], better: Unit) -> str:
    def cut(one: GivenSpan) -> bool:
        usual = _converted(text, [one], "characters")
        return usual is None or not _neat(text, usual)

    one = next(one for one in said if cut(one))
    return (
        f"the span {one.start}-{one.end} is {_read(text, one, 'characters')} but {_read(text, one, better)}: "
        f"say which it is, data.columns.offsets: {better} or characters"
    )
