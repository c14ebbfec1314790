"""Fits a text on one line of a report. Knows nothing of plots and escaping."""

from __future__ import annotations

import unicodedata

from refsynth.core.markup import one_line

NAME_WIDTH = 38


def capital(text: str) -> str:
    """Return a text with its first letter capitalized."""
    return text[:1].upper() + text[1:]


def columns(text: str) -> int:
    """Return the width of a text in columns; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def short(text: str) -> str:
    """Return a text on one line of at most `NAME_WIDTH` columns."""
    line = one_line(text)
    if columns(line) <= NAME_WIDTH:
        return line
    while columns(line) >= NAME_WIDTH:
        line = line[:-1]
    return line + "…"
