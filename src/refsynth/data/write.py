"""Writes tables as CSV, TSV, JSON lines, Excel or Parquet, by the suffix. All tables for people are written here.

A file appears complete or not at all: it is written under another name and renamed. Cells never become formulas, see
`data.cells`. CSV, JSON lines and Parquet are written row by row in constant memory; Excel in memory, bounded by its largest
sheet.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TextIO

from refsynth.core.errors import DataError, InputError
from refsynth.core.extras import require
from refsynth.data.cells import encodable, harmless, written

Row = Mapping[str, Any]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".xlsx", ".parquet")
UTF8 = "utf-8-sig"
"""UTF-8 with a byte-order mark: without it, spreadsheets assume another encoding."""
_PART = 10_000  # rows of a Parquet file in memory at a time


class Style(NamedTuple):
    """The appearance of a table.

    Attributes:
        heads: names of columns in CSV and Excel, by key, if they differ from the keys.
        delimiter: the delimiter of `.csv`; `.tsv` always has tabs.
        choices: a column and its allowed values, which Excel offers as a drop-down list.
    """

    heads: Mapping[str, str] = {}
    delimiter: str = ","
    encoding: str = UTF8
    choices: tuple[str, Sequence[str]] | None = None


PLAIN = Style(encoding="utf-8")
"""For files that programs read too: without a byte-order mark."""


def check_suffix(path: Path) -> None:
    """Check that a table can be written to a file with this suffix.

    Raises:
        InputError: the suffix is not one of `SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: unknown format", expected=f"a name that ends in {', '.join(SUFFIXES)}")


def write_table(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], *, style: Style = Style()) -> None:  # noqa: B008
    """Write rows under their columns.

    Args:
        path: the file; an existing one is replaced.
        columns: the columns in order; None takes those of the rows, in the order of first appearance.
        rows: the cells by column; missing cells are left empty.
        style: the appearance of the table.

    Raises:
        DataError: a row cannot be written in this format.
        InputError: the suffix is not one of `SUFFIXES`.
        OSError: the file cannot be written; no part of it is left.
    """
    check_suffix(path)
    suffix = path.suffix.lower()
    with replacing(path) as temporary:
        _WRITERS[suffix](temporary, columns, rows, style._replace(delimiter="\t") if suffix == ".tsv" else style)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name to write to; the file replaces `path` if the block succeeds, else it is removed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _csv(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], style: Style) -> None:
    if columns is None:
        with _spooled(path, rows) as (keys, again):
            _csv(path, keys, again, style)
        return
    with path.open("w", encoding=style.encoding, errors="backslashreplace", newline="") as stream:
        table = csv.writer(_LineEnds(stream), delimiter=style.delimiter, lineterminator="\r\n")
        table.writerow([_cell(style.heads.get(column, column)) for column in columns])
        for row in rows:
            table.writerow([_cell(row.get(column)) for column in columns])


class _LineEnds:
    """Ends lines with a line feed only. A CSV writer with that line terminator would not quote a carriage return in a cell."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        return self._stream.write(line.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> str | int | float | None:
    cell = written(value)
    return harmless(cell) if isinstance(cell, str) else cell


@contextmanager
def _spooled(path: Path, rows: Iterable[Row]) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """Store rows in a file until all their columns are known; yield the columns and the rows."""
    columns: dict[str, None] = {}

    def noted() -> Iterator[Row]:
        for row in rows:
            columns.update(dict.fromkeys(row))
            yield row

    with TemporaryDirectory(dir=path.parent, prefix=".refsynth-") as folder:
        stored = Path(folder) / "rows.jsonl"
        _jsonl(stored, None, noted(), Style())
        with stored.open("rb") as stream:
            yield list(columns), map(json.loads, stream)


def _jsonl(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], style: Style) -> None:
    del style
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        for row in rows:
            full = row if columns is None else {column: row.get(column) for column in columns}
            stream.write(json.dumps(full, ensure_ascii=False, default=written) + "\n")


def _parquet(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], style: Style) -> None:
    """Write parts and join them: the type that fits a whole column is known only at the end."""
    del style
    polars = require("polars", extra="train")
    source, number = iter(rows), 0
    with TemporaryDirectory(dir=path.parent, prefix=".refsynth-") as folder:
        while (part := list(islice(source, _PART))) or not number:
            names = dict.fromkeys(columns or (name for row in part for name in row))
            values = {name: _uniform([row.get(name) for row in part]) for name in names}
            polars.DataFrame(values, strict=False).write_parquet(Path(folder) / f"{number:09}.parquet")
            number += 1
        parts = [polars.scan_parquet(file) for file in sorted(Path(folder).iterdir())]
        try:
            polars.concat(parts, how="diagonal_relaxed").sink_parquet(path)
        except polars.exceptions.PolarsError as error:
            raise DataError(f"the rows cannot be written as Parquet ({error})", remedy="write .jsonl") from error


def _uniform(values: Sequence[Any]) -> list[Any]:
    """Return the values of a column with one type: unchanged if they have one, else as texts."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [value if value is None else float(value) for value in values]
    huge = any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values)
    if len(kinds) == 1 and not kinds & {list, tuple, dict, str} and not huge:
        return list(values)
    return [cell if cell is None else encodable(str(cell)) for cell in map(written, values)]


def _excel(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], style: Style) -> None:
    from refsynth.data.sheet import write_sheet  # loading its library takes longer than most commands

    write_sheet(path, columns, rows, heads=style.heads, choices=style.choices)


_WRITERS: Mapping[str, Callable[[Path, Sequence[str] | None, Iterable[Row], Style], None]] = {
    ".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".xlsx": _excel, ".parquet": _parquet,
}  # fmt: skip
