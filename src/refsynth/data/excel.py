"""Reads a sheet of an Excel or LibreOffice workbook as records; every cell becomes a text.

The header need not be the first row: titles above it and empty rows are skipped. A note lists columns without a name. Numbers,
booleans and dates are spelled as in other formats (`core.value`). A formula is read as its last result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from refsynth.core.errors import DataError, nearest
from refsynth.data.columns import named_label, named_text
from refsynth.data.source import ROW_LIMIT
from refsynth.data.table import Fault, Table, TableRecord, distinct
from refsynth.data.typed import Spelled

_MEMORY = 4096  # megabytes of the process that reads a workbook
_SHOWN = 4  # rows in a note
_LOOKED_AT = 20  # rows that may be the header
_LINE = 64 * ROW_LIMIT  # bytes of a row as JSON
_REMEDY = "open it in the spreadsheet and save it again, or as CSV (UTF-8)"


class _SheetRow(NamedTuple):
    """A row that is not empty, with its number in the sheet."""

    number: int
    cells: list[str | None]


@contextmanager
def open_excel(path: Path, *, sheet: str | None) -> Iterator[Table]:
    """Open a sheet of a workbook: the named one, else the first that is not hidden.

    Raises:
        DataError: the file is damaged, encrypted or too large, or has no such sheet.
    """
    arguments = [str(path.absolute()), str(_MEMORY), *([sheet] if sheet else [])]
    command = [sys.executable, "-P", "-m", "refsynth.data.workbook", *arguments]
    environment = os.environ | {"RUST_BACKTRACE": "0"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment
    ) as reader:
        assert reader.stdout is not None
        try:
            lines = _lines(path, reader.stdout, sheet)
            opening = next(lines)
            yield _table(path, opening, (_SheetRow(number, [*map(_cell, cells)]) for number, cells in lines))
        finally:
            reader.kill()


def _cell(value: Any) -> str | None:
    return Spelled(value[0]) if isinstance(value, list) else value


def _lines(path: Path, stream: IO[bytes], sheet: str | None) -> Iterator[Any]:
    """Yield the messages of the process, up to its end message.

    Raises:
        DataError: the process reports an error, or ended early.
    """
    while line := stream.readline(_LINE):
        try:
            message = json.loads(line)
        except ValueError:
            break
        if isinstance(message, Mapping) and message.get("end"):
            return
        if isinstance(message, Mapping) and "error" in message:
            raise _error(path, message, sheet)
        yield message
    raise DataError(f"{path}: cannot be read: damaged, or larger than {_MEMORY >> 10} GB in memory", remedy=_REMEDY)


def _error(path: Path, message: Mapping[str, Any], sheet: str | None) -> DataError:
    if message["error"] == "password":
        return DataError(f"{path}: is encrypted", remedy="save it without a password")
    if message["error"] == "sheet":
        sheets = message["sheets"]
        return DataError(
            f"{path}: no sheet '{sheet}'" if sheet else f"{path}: no sheet to read",
            known=f"sheets there: {', '.join(sheets)}",
            remedy=f"{nearest(sheet or '', sheets)} Name one with data.sheet in task.yaml, or --sheet".strip(),
        )
    return DataError(f"{path}: damaged workbook ({message['why']})", remedy=_REMEDY)


def _table(path: Path, opening: Mapping[str, Any], rows: Iterator[_SheetRow]) -> Table:
    first = list(islice(rows, _LOOKED_AT))
    if not first:
        raise DataError(f"{path}: sheet '{opening['sheet']}' is empty", expected="rows under a header that names the columns")
    place = _header(first)
    names = [(name or "").strip() for name in first[place].cells]
    notes = []
    if len(opening["sheets"]) > 1:
        notes.append(f"sheet '{opening['sheet']}' is read, of {len(opening['sheets'])} (data.sheet, --sheet)")
    if place:
        notes.append(f"{place} row{'s' * (place > 1)} above the header (row {first[place].number} of the sheet) skipped")
    unnamed = [at for at, name in enumerate(names) if not name and any(row.cells[at] for row in first[place + 1 :])]
    if unnamed:
        letters = ", ".join(map(_letter, unnamed))
        notes.append(f"not read, with no name in the header: column{'s' * (len(unnamed) > 1)} {letters}")
    below = chain(first[place + 1 :], rows)
    return Table("excel", "utf-8", "", tuple(name for name in names if name), _records(names, below, notes), notes)


def _header(rows: Sequence[_SheetRow]) -> int:
    """Return the position of the row that names the columns.

    A likely header fills more than half as many cells as the fullest row, and its names neither repeat nor appear below it.
    Among likely headers, the first with a usual name of a text or label column wins, then the first with no gap below it.
    """
    filled = [[cell for cell in row.cells if cell] for row in rows]
    width = max(map(len, filled))
    likely = []
    for place, names in enumerate(filled):
        below = {cell for cells in filled[place + 1 :] for cell in cells}
        if len(names) * 2 > width and len(set(names)) == len(names) and not below & set(names):
            likely.append(place)
    usual = [place for place in likely if named_text(filled[place]) or named_label(filled[place])]
    closed = [place for place in likely if place + 1 < len(rows) and rows[place + 1].number == rows[place].number + 1]
    return next(iter((*usual, *closed, *likely)), 0)


def _records(names: Sequence[str], rows: Iterator[_SheetRow], notes: list[str]) -> Iterator[TableRecord | Fault]:
    """Yield the rows. If row n is not always row n + 1 of the sheet, a note at the end says where rows stand."""
    keys = iter(distinct([name for name in names if name]))
    named = [next(keys) if name else "" for name in names]
    offset, moved = 1, list[tuple[int, int]]()
    for row, (number, cells) in enumerate(rows, 1):
        if number - row != offset:
            offset = number - row
            moved.append((row, number))
        if sum(len(cell) for cell in cells if cell) > ROW_LIMIT:
            yield Fault(row, number, f"longer than {ROW_LIMIT:,} characters")
        else:
            yield TableRecord(row, number, {name: cell or "" for name, cell in zip(named, cells, strict=True) if name})
    if moved:
        shown = ", ".join(f"row {row} is row {number} of the sheet" for row, number in moved[:_SHOWN])
        more = ", and so on" if len(moved) > _SHOWN else ""
        notes.append(f"rows are counted below the header, without empty ones: {shown}{more}")


def _letter(place: int) -> str:
    """Return the letters of a column, such as `AB` for position 27."""
    high, low = divmod(place, 26)
    return (_letter(high - 1) if high else "") + chr(ord("A") + low)
