"""A text as words: what is tagged, whatever model reads the text. Characters where a script does not space its words.

Punctuation and symbols are words of their own. Words do not depend on white space or on characters that are not seen: a text and
its cleaned form have the same words.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3040, 0x30FF),  # kana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)

_Class = Literal["space", "unseen", "part", "alone"]


class Word(NamedTuple):
    """A word: where it begins and ends in the text, in characters."""

    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """Return the words of a text, in order."""
    classes = ["part" if kind == "unseen" else kind for kind in map(_class_of, text)]
    words, place = [], 0
    for kind, run in groupby(classes):
        end = place + len(list(run))
        if kind == "part" and any(_class_of(character) == "part" for character in text[place:end]):
            words.append(Word(place, end))
        elif kind == "alone":
            words += [Word(each, each + 1) for each in range(place, end)]
        place = end
    return words


def unspaced(character: str) -> bool:
    """Return whether a character is of a script that does not space its words."""
    return any(first <= ord(character) <= last for first, last in _UNSPACED)


@lru_cache(maxsize=1 << 14)
def _class_of(character: str) -> _Class:
    if character.isspace():
        return "space"
    category = unicodedata.category(character)
    if category in ("Cc", "Cf"):
        return "unseen"
    return "alone" if category[0] in "PS" or category == "Cs" or unspaced(character) else "part"
