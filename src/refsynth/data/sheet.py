"""Writes rows to an Excel file. Text stays text: it never becomes a formula, a link or a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any

import xlsxwriter

from refsynth.core.errors import DataError
from refsynth.data.cells import risky, written

MOST_ROWS, MOST_COLUMNS, MOST_CHARACTERS = 1_048_575, 16_384, 32_767
"""Limits of a sheet (rows below the header, columns) and of a cell."""
MOST_EXACT = 2**53
"""Excel stores numbers as floats: larger integers are written as text."""
_REMEDY = "write .csv, .jsonl or .parquet instead"


def write_sheet(
    path: Path,
    columns: Sequence[str] | None,
    rows: Iterable[Mapping[str, Any]],
    *,
    heads: Mapping[str, str],
    choices: tuple[str, Sequence[str]] | None = None,
) -> None:
    """Write rows under their columns; the arguments are those of `data.write`.

    Raises:
        DataError: the rows do not fit into a sheet.
        OSError: the file cannot be written.
    """
    whole = BytesIO()  # in memory until the end: on a full disk, the archive would not release its file
    book = xlsxwriter.Workbook(
        whole, {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False, "in_memory": True}
    )
    page = _Page(book)
    found = dict.fromkeys(columns or ())
    last = 0
    for last, row in enumerate(rows, 1):
        if last > MOST_ROWS:
            raise DataError(f"more than {MOST_ROWS:,} rows, which is all that an Excel sheet holds", remedy=_REMEDY)
        if columns is None:
            found.update(dict.fromkeys(row))
        for place, column in enumerate(found):
            page.write(last, place, row.get(column))
    if len(found) > MOST_COLUMNS:
        raise DataError(f"{len(found):,} columns, more than an Excel sheet holds", remedy=_REMEDY)
    for place, column in enumerate(found):
        page.write(0, place, heads.get(column, column), head=True)
    page.sheet.freeze_panes(1, 0)
    if choices is not None:
        _offer(book, page, list(found).index(choices[0]), last, choices[1])
    book.close()
    path.write_bytes(whole.getbuffer())


class _Page:
    """A sheet that takes any value."""

    def __init__(self, book: xlsxwriter.Workbook, name: str | None = None) -> None:
        self.sheet = book.add_worksheet(name)
        self._bold, self._quoted = book.add_format({"bold": True}), book.add_format({"quote_prefix": True})
        self._day = book.add_format({"num_format": "yyyy-mm-dd"})
        self._moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})

    def write(self, row: int, place: int, value: Any, *, head: bool = False) -> None:
        if isinstance(value, bool):
            self.sheet.write_boolean(row, place, value)
        elif isinstance(value, (datetime, date)) and 1900 < value.year < 9999 and getattr(value, "tzinfo", None) is None:
            self.sheet.write_datetime(row, place, value, self._moment if isinstance(value, datetime) else self._day)
        elif isinstance(value, (int, float)) and isfinite(value) and abs(value) <= MOST_EXACT:
            self.sheet.write_number(row, place, value)
        elif (text := written(value)) not in (None, ""):
            self._write_text(row, place, str(text), head=head)

    def _write_text(self, row: int, place: int, text: str, *, head: bool) -> None:
        if len(text) > MOST_CHARACTERS:
            raise DataError(f"row {row}: a cell of {len(text):,} characters, and Excel holds {MOST_CHARACTERS:,}", remedy=_REMEDY)
        self.sheet.write_string(row, place, text, self._bold if head else self._quoted if risky(text) else None)


def _offer(book: xlsxwriter.Workbook, page: _Page, place: int, last: int, names: Sequence[str]) -> None:
    """Add a drop-down list to a column; its items stand in a second sheet."""
    beside = _Page(book, "choices")
    for row, name in enumerate(names):
        beside.write(row, 0, name)
    source = f"=choices!$A$1:$A${len(names)}"
    page.sheet.data_validation(1, place, max(last, 1), place, {"validate": "list", "source": source, "error_type": "warning"})
