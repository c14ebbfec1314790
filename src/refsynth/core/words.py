"""The words of a text, which are tagged whatever model reads the text. In scripts without spaces each character is a word.

Punctuation and symbols are words of their own. White space and invisible characters do not matter: a text and its cleaned form
have the same words.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import groupby
from typing import Literal, NamedTuple

_UNSPACED: tuple[tuple[tuple[str, ...], int, int], ...] = (
    (("th",), 0x0E00, 0x0E7F),
    (("lo",), 0x0E80, 0x0EFF),
    (("my",), 0x1000, 0x109F),
    (("km",), 0x1780, 0x17FF),
    (("zh", "ja"), 0x3005, 0x3007),  # signs that stand for a Han character
    (("ja",), 0x3040, 0x30FF),  # kana, and below their other forms
    (("ja",), 0x31F0, 0x31FF),
    (("ja",), 0xFF66, 0xFF9F),
    (("zh", "ja"), 0x3400, 0x4DBF),  # Han
    (("zh", "ja"), 0x4E00, 0x9FFF),
    (("zh", "ja"), 0xF900, 0xFAFF),
    (("zh", "ja"), 0x20000, 0x3FFFF),
)
"""Languages that do not space their words, and the ranges of the characters that they are written with.

Korean is written with spaces, so it is not among them. What stands between two spaces there is a word with its particles.
"""

UNSPACED_LANGUAGES = frozenset(language for languages, _, _ in _UNSPACED for language in languages)
"""Languages written without spaces between words, by ISO 639-1 code."""

UNSPACED_CLASS = "".join(f"\\U{first:08x}-\\U{last:08x}" for _, first, last in _UNSPACED)
"""The characters of such languages, for use inside the brackets of a regular expression."""

_ONE_UNSPACED = re.compile(f"[{UNSPACED_CLASS}]")

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
    """Return whether a character belongs to a script that does not space its words."""
    return _ONE_UNSPACED.fullmatch(character) is not None


@lru_cache(maxsize=1 << 14)
def _class_of(character: str) -> _Class:
    if character.isspace():
        return "space"
    category = unicodedata.category(character)
    if category in ("Cc", "Cf"):
        return "unseen"
    return "alone" if category[0] in "PS" or category == "Cs" or unspaced(character) else "part"
