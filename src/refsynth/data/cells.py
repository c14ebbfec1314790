"""Escapes the cells of a table so that no spreadsheet runs them as formulas, and restores them when they are read.

A spreadsheet runs a text that begins with `=` as a formula. An apostrophe in front marks it as text, as spreadsheets do
themselves. `restored` removes exactly what `harmless` adds, so that a text survives any number of files.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time
from typing import Any

QUOTE = "'"
_FORMULA = re.compile("[=+\\-@\t\r\n＝＋－＠]")
"""First characters of a formula, full-width forms included; a leading tab or line end does not disarm it."""
_NUMBER = re.compile(r"[+-]?\d[\d.,]*([eE][+-]?\d+)?\s?%?")


def risky(text: str) -> bool:
    """Return whether a spreadsheet may run a text as a formula once leading apostrophes are removed; a number is safe."""
    bare = text.lstrip(QUOTE)
    return bool(_FORMULA.match(bare)) and not _NUMBER.fullmatch(bare)


def harmless(text: str) -> str:
    """Return the text as it can be written to a CSV file; `restored` reverses it."""
    return QUOTE + text if risky(text) else text


def restored(cell: str) -> str:
    """Return the text of a cell that `harmless` may have escaped."""
    return cell[1:] if cell.startswith(QUOTE) and risky(cell[1:]) else cell


def encodable(text: str) -> str:
    """Return the text with lone surrogates, which no file can hold, escaped as in JSON."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def written(value: Any) -> str | int | float | None:
    """Return a value as a cell: a text, a number or None. Lists and objects become JSON."""
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime, date, time)):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, (list, tuple, dict)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return encodable(str(value))
