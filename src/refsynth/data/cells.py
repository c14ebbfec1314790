"""Text as a cell of a table that people open in a spreadsheet."""

from __future__ import annotations

FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What a spreadsheet takes for the beginning of a formula, full-width forms included."""


def as_cell(text: str) -> str:
    """Return the text so that no spreadsheet computes it: an apostrophe stands before what would begin a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text
