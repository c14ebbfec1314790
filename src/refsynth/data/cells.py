"""A cell of a table that is written: no formula, no character that cannot be written; and read again as it was.

A spreadsheet takes a text that begins with `=` for a formula, and runs it. An apostrophe before it says that it is text, and is
what spreadsheets themselves write; `restored` takes off what `harmless` put there, so that a text survives any number of files.
"""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time
from typing import Any

QUOTE = "'"
_FORMULA = re.compile("[=+\\-@\t\r\n＝＋－＠]")
"""What a formula begins with, in wide characters too; with a tab or a line end before it, it is one still."""
_NUMBER = re.compile(r"[+-]?\d[\d.,]*([eE][+-]?\d+)?\s?%?")


def risky(text: str) -> bool:
    """Return whether a spreadsheet may take a text for a formula, apostrophes at its start aside; a number is none."""
    bare = text.lstrip(QUOTE)
    return bool(_FORMULA.match(bare)) and not _NUMBER.fullmatch(bare)


def harmless(text: str) -> str:
    """Return the text as it may stand in a CSV file, see `restored`."""
    return QUOTE + text if risky(text) else text


def restored(cell: str) -> str:
    """Return the text of a cell that `harmless` may have made."""
    return cell[1:] if cell.startswith(QUOTE) and risky(cell[1:]) else cell


def encodable(text: str) -> str:
    """Return the text with halves of characters (lone surrogates), which no file can hold, as JSON escapes them."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def written(value: Any) -> str | int | float | None:
    """Return a value as a cell: text, a number or nothing; lists and objects are JSON."""
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (datetime, date, time)):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, (list, tuple, dict)):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return encodable(str(value))
