"""Workbooks of Excel and LibreOffice as records: one sheet, its header where it stands, every cell as a text.

Titles above the header are passed over, and so are empty rows; columns without a name are named in a note. Numbers, truth values
and moments are spelled as in other formats (`core.value`). What a formula last came to is read, never the formula.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from refsynth.core.errors import DataError, nearest
from refsynth.data.columns import named_label, named_text
from refsynth.data.source import ROW_LIMIT
from refsynth.data.table import Fault, Table, TableRecord, distinct
from refsynth.data.typed import Spelled

_MEMORY = 4096  # megabytes of the process that reads a workbook
_SHOWN = 4  # places in the sheet that a note names
_LOOKED_AT = 20  # rows in which the header is looked for
_LINE = 64 * ROW_LIMIT  # bytes of a row as JSON
_REMEDY = "open it in the spreadsheet and save it again, or as CSV (UTF-8)"

_Cells = list[str | None]


class _SheetRow(NamedTuple):
    """A row that is not empty, with its number in the sheet."""

    number: int
    cells: _Cells


@contextmanager
def open_excel(path: Path, *, sheet: str | None) -> Iterator[Table]:
    """Open a sheet of a workbook: the first that is not hidden, unless one is named.

    Raises:
        DataError: the file is damaged, encrypted or too large, or has no such sheet.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "refsynth.data.workbook",
        str(path.absolute()),
        str(_MEMORY),
        *([sheet] if sheet else []),
    ]
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


def _cell(told: Any) -> str | None:
    return Spelled(told[0]) if isinstance(told, list) else told


def _lines(path: Path, stream: IO[bytes], wanted: str | None) -> Iterator[Any]:
    """Yield what the process says, up to its end.

    Raises:
        DataError: it says an error, or ended before its end.
    """
    while line := stream.readline(_LINE):
        try:
            said = json.loads(line)
        except ValueError:
            break
        if isinstance(said, Mapping) and said.get("end"):
            return
        if isinstance(said, Mapping) and "error" in said:
            raise _error(path, said, wanted)
        yield said
    raise DataError(f"{path}: cannot be read: damaged, or larger than {_MEMORY >> 10} GB in memory", remedy=_REMEDY)


def _error(path: Path, said: Mapping[str, Any], wanted: str | None) -> DataError:
    if said["error"] == "password":
        return DataError(f"{path}: is encrypted", remedy="save it without a password")
    if said["error"] == "sheet":
        found = said["sheets"]
        remedy = f"{nearest(wanted or '', found)} Name one with data.sheet in task.yaml, or --sheet".strip()
        return DataError(
            f"{path}: no sheet '{wanted}'" if wanted else f"{path}: no sheet to read",
            known=f"sheets there: {', '.join(found)}",
            remedy=remedy,
        )
    return DataError(f"{path}: damaged workbook ({said['why']})", remedy=_REMEDY)


def _table(path: Path, opening: Mapping[str, Any], rows: Iterator[_SheetRow]) -> Table:
    first = [row for _, row in zip(range(_LOOKED_AT), rows, strict=False)]
    if not first:
        raise DataError(f"{path}: sheet '{opening['sheet']}' is empty", expected="rows under a header that names the columns")
    place = _header(first)
    names = [(name or "").strip() for name in first[place].cells]
    notes = []
    if len(opening["sheets"]) > 1:
        notes.append(f"sheet '{opening['sheet']}' is read, of {len(opening['sheets'])} (data.sheet, --sheet)")
    if place:
        notes.append(f"{place} row{'s' * (place > 1)} above the header (row {first[place].number} of the sheet) passed over")
    unnamed = [at for at, name in enumerate(names) if not name and any(row.cells[at] for row in first[place + 1 :])]
    if unnamed:
        notes.append(
            f"not read, having no name in the header: column{'s' * (len(unnamed) > 1)} {', '.join(map(_letter, unnamed))}"
        )
    below = _chained(first[place + 1 :], rows)
    return Table("excel", "utf-8", "", tuple(name for name in names if name), _records(names, below, notes), notes)


def _chained(first: Sequence[_SheetRow], rest: Iterator[_SheetRow]) -> Iterator[_SheetRow]:
    yield from first
    yield from rest


def _header(rows: Sequence[_SheetRow]) -> int:
    """Return the place of the row that names columns.

    It fills more than half of as many cells as the fullest row, with names that differ, none of which comes again below it. Of
    several such rows it is the first with a usual name of a text or a label, else the first with no gap below it.
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
    """Yield the rows; at the end, a note says where in the sheet they stand, unless each stands one below its number."""
    keys = iter(distinct([name for name in names if name]))
    named = [next(keys) if name else "" for name in names]
    above, moved = 1, list[tuple[int, int]]()
    for row, (number, cells) in enumerate(rows, 1):
        if number - row != above:
            above = number - row
            moved.append((row, number))
        if sum(len(cell) for cell in cells if cell) > ROW_LIMIT:
            yield Fault(row, number, f"longer than {ROW_LIMIT:,} characters")
        else:
            yield TableRecord(row, number, {name: cell or "" for name, cell in zip(named, cells, strict=True) if name})
    if moved:
        shown = ", ".join(f"row {row} is row {number} of the sheet" for row, number in moved[:_SHOWN])
        more = ", and so on" if len(moved) > _SHOWN else ""
        notes.append(f"rows are counted below the header, empty ones left out: {shown}{more}")


def _letter(place: int) -> str:
    """Return `AB` for the column at place 27."""
    high, low = divmod(place, 26)
    return (_letter(high - 1) if high else "") + chr(ord("A") + low)
