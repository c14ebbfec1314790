"""Rows to a file that a person opens: CSV, TSV, JSON lines, Excel or Parquet, by the suffix. Every table that we write goes here.

The file is there whole or not at all: it is written under another name and renamed. Cells are no formulas, see `data.cells`.
CSV, JSON lines and Parquet are written as rows come, in constant memory; Excel in memory, which its largest sheet bounds.
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
"""Spreadsheets take UTF-8 without its mark for something else."""
_PART = 10_000  # rows of a Parquet file in memory at once


class Style(NamedTuple):
    """How a table looks.

    Attributes:
        heads: what columns are called in CSV and Excel, where not by their keys.
        delimiter: of CSV; a tab in `.tsv`.
        encoding: of CSV.
        choices: of a column, what may be filled in: a list to choose from in Excel.
    """

    heads: Mapping[str, str] = {}
    delimiter: str = ","
    encoding: str = UTF8
    choices: tuple[str, Sequence[str]] | None = None


PLAIN = Style(encoding="utf-8")
"""For what programs read too: without a mark."""


def check_suffix(path: Path) -> None:
    """See that a table can be written to a file of this name.

    Raises:
        InputError: its suffix is none of those that say what to write.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: not known how to write it", expected=f"a name that ends in {', '.join(SUFFIXES)}")


def write_table(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], *, style: Style = Style()) -> None:  # noqa: B008
    """Write rows under their columns.

    Args:
        path: the file; one that is there is replaced.
        columns: in order; None where they are known from the rows only, in the order in which they come up.
        rows: by column; what a row does not have is left empty.
        style: how it looks.

    Raises:
        DataError: a row cannot be written in this format.
        InputError: the suffix says nothing.
        OSError: the file cannot be written; what was written of it is gone.
    """
    check_suffix(path)
    with replacing(path) as temporary:
        _WRITERS[path.suffix.lower()](temporary, columns, rows, style)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name to write a file under; it takes the place of `path` when the block ends well, else it is removed."""
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
        with _spooled(path, rows) as (found, again):
            _csv(path, found, again, style)
        return
    with path.open("w", encoding=style.encoding, errors="backslashreplace", newline="") as stream:
        table = csv.writer(_LineEnds(stream), delimiter=style.delimiter, lineterminator="\r\n")
        table.writerow([_cell(style.heads.get(column, column)) for column in columns])
        for row in rows:
            table.writerow([_cell(row.get(column)) for column in columns])


class _LineEnds:
    """Ends lines with a line feed only. A writer that knows of no carriage return would not quote one in a cell."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> int:
        return self._stream.write(line.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> str | int | float | None:
    cell = written(value)
    return harmless(cell) if isinstance(cell, str) else cell


def _tsv(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], style: Style) -> None:
    _csv(path, columns, rows, style._replace(delimiter="\t"))


@contextmanager
def _spooled(path: Path, rows: Iterable[Row]) -> Iterator[tuple[list[str], Iterator[Row]]]:
    """Keep rows in a file until all their columns are known; give these and the rows again."""
    found: dict[str, None] = {}

    def noted() -> Iterator[Row]:
        for row in rows:
            found.update(dict.fromkeys(row))
            yield row

    with TemporaryDirectory(dir=path.parent, prefix=".refsynth-") as folder:
        kept = Path(folder) / "rows.jsonl"
        _jsonl(kept, None, noted(), Style())
        with kept.open("rb") as stream:
            yield list(found), map(json.loads, stream)


def _jsonl(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], style: Style) -> None:
    del style
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        for row in rows:
            full = row if columns is None else {column: row.get(column) for column in columns}
            stream.write(json.dumps(full, ensure_ascii=False, default=written) + "\n")


def _parquet(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], style: Style) -> None:
    """Write parts, and join them: which type holds a whole column is known at the end only."""
    del style
    polars = require("polars", extra="train")
    source, number = iter(rows), 0
    with TemporaryDirectory(dir=path.parent, prefix=".refsynth-") as folder:
        while (part := list(islice(source, _PART))) or not number:
            names = dict.fromkeys(columns or (name for row in part for name in row))
            values = {name: _alike([row.get(name) for row in part]) for name in names}
            polars.DataFrame(values, strict=False).write_parquet(Path(folder) / f"{number:09}.parquet")
            number += 1
        parts = [polars.scan_parquet(file) for file in sorted(Path(folder).iterdir())]
        try:
            polars.concat(parts, how="diagonal_relaxed").sink_parquet(path)
        except polars.exceptions.PolarsError as error:
            raise DataError(f"the rows cannot be written as Parquet ({error})", remedy="write .jsonl") from error


def _alike(values: Sequence[Any]) -> list[Any]:
    """Return the values of a column as one type: as they are where they are of one, else as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return [value if value is None else float(value) for value in values]
    if len(kinds) == 1 and not kinds & {list, tuple, dict, str} and not any(_huge(value) for value in values):
        return list(values)
    cells = map(written, values)
    return [cell if cell is None else encodable(str(cell)) for cell in cells]


def _huge(value: Any) -> bool:
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _excel(path: Path, columns: Sequence[str] | None, rows: Iterable[Row], style: Style) -> None:
    from refsynth.data.sheet import write_sheet  # its library takes longer to load than most commands run

    write_sheet(path, columns, rows, heads=style.heads, choices=style.choices)


_WRITERS: Mapping[str, Callable[[Path, Sequence[str] | None, Iterable[Row], Style], None]] = {
    ".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".xlsx": _excel, ".parquet": _parquet,
}  # fmt: skip
