"""A data file as records with row numbers: CSV, TSV, JSONL, Parquet, plain text. Knows nothing of texts or labels.

A row is a data row, counted from 1 as it stands in the file: the header and blank lines do not count (in plain text, which has
one text per line, every line does). What is wrong with a row is said, as a `Fault`; only a file that cannot be read raises.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal, NamedTuple

from refsynth.core.errors import DataError
from refsynth.core.extras import require
from refsynth.data.account import Reason
from refsynth.data.exports import as_object, as_row
from refsynth.data.source import ROW_LIMIT, Line, Lines, broken_byte, check_encoding, detect_encoding, lines_of, opened

Format = Literal["csv", "jsonl", "parquet", "text", "conll"]

_SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet",
}  # fmt: skip
_DELIMITERS = ",;\t|"
_SLICE = 10_000  # rows of a Parquet file in memory at once


class Record(NamedTuple):
    """A row's values by column; `line` is the physical line it starts on, where there are lines."""

    row: int
    line: int | None
    values: Mapping[str, Any]
    left: Reason | None = None
    """Why its people left it out, where a labelling tool says so."""


class Fault(NamedTuple):
    """A row that could not be read, and why."""

    row: int
    line: int | None
    message: str


class Table(NamedTuple):
    """An open file. `columns` is None where each row names its own (JSONL); `delimiter` is empty where there is none."""

    format: Format
    encoding: str
    delimiter: str
    columns: tuple[str, ...] | None
    records: Iterator[Record | Fault]
    unread: Mapping[str, int] = MappingProxyType({})
    """Kinds of things in the rows of an export that are not read, with the number of rows; full once the records are read."""


@contextmanager
def open_table(path: Path, *, delimiter: str | None = None, encoding: str | None = None, plain: bool = False) -> Iterator[Table]:
    """Open a data file by its suffix, or by its content where the suffix says nothing.

    Args:
        path: the file.
        delimiter: of a CSV file; detected if None.
        encoding: of the text; detected if None.
        plain: whether `.txt` means one text per line without a header, and not a table.

    Raises:
        DataError: the file cannot be read, or is none of the formats.
    """
    with opened(path) as stream:
        kind = "text" if plain and path.suffix.lower() == ".txt" else _SUFFIXES.get(path.suffix.lower())
        if kind == "parquet" or (kind is None and stream.peek(4)[:4] == b"PAR1"):  # type: ignore[attr-defined]
            yield _parquet(path, stream)
            return
        found = check_encoding(encoding) if encoding else detect_encoding(stream, name=str(path))
        with lines_of(stream, found) as lines:
            yield _text_table(lines, name=str(path), kind=kind, delimiter=delimiter or _tab_of(path), encoding=found)


@contextmanager
def standard_input(stream: IO[bytes], *, encoding: str | None = None) -> Iterator[Table]:
    """Read a stream that cannot be rewound: JSONL where its first character is `{`, else one text per line."""
    with lines_of(stream, check_encoding(encoding) if encoding else "utf-8-sig") as lines:
        kind: Format = "jsonl" if _first(lines).startswith("{") else "text"
        yield Table(kind, encoding or "utf-8", "", None if kind == "jsonl" else ("text",), _READERS[kind](lines))


def _text_table(lines: Lines, *, name: str, kind: Format | None, delimiter: str | None, encoding: str) -> Table:
    first = _first(lines)
    if not first:
        raise DataError(f"{name}: is empty", expected="rows, and in CSV a header that names the columns")
    if first.startswith("[") and kind == "jsonl" and not as_row(first):
        raise DataError(f"{name}: is one JSON array", expected="one JSON object per line", remedy="convert it: jq -c '.[]'")
    kind = kind or ("jsonl" if first.startswith("{") or as_row(first) else "csv")
    if kind != "csv":
        return Table(kind, encoding, "", ("text",) if kind == "text" else None, _READERS[kind](lines))
    delimiter = _check_delimiter(delimiter) if delimiter else _detect_delimiter(lines)
    rows = _fields(lines, delimiter)
    header = next(rows)
    if isinstance(header[1], str):
        raise DataError(f"{name}: the header cannot be read: {header[1]}", expected="column names in the first line")
    columns = tuple(column.strip() for column in header[1])
    return Table("csv", encoding, delimiter, columns, _csv_records(rows, columns))


def _tab_of(path: Path) -> str | None:
    return "\t" if path.suffix.lower() in (".tsv", ".tab") else None


def _first(lines: Lines) -> str:
    """Return the first line that is not blank, without its margin, and give everything read back."""
    read: list[Line] = []
    for line in lines:
        read.append(line)
        if line.text.strip():
            break
    lines.give_back(read)
    return read[-1].text.strip() if read else ""


def _check_delimiter(delimiter: str) -> str:
    delimiter = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(delimiter, delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise DataError(f"delimiter {delimiter!r}: not usable", expected="one character, or tab")
    return delimiter


def _detect_delimiter(lines: Lines) -> str:
    """Choose the delimiter for which most of the first records have as many fields as the header, and more than one."""
    head = [line for _, line in zip(range(50), lines, strict=False)]
    lines.give_back(head)

    def agreement(delimiter: str) -> float:
        rows = [fields for _, fields in _fields(_replay(head), delimiter) if not isinstance(fields, str)]
        if not rows or len(rows[0]) < 2:
            return 0.0
        return sum(len(row) == len(rows[0]) for row in rows) / len(rows)

    return max(_DELIMITERS, key=agreement)


def _replay(lines: list[Line]) -> Lines:
    again = Lines(io.BytesIO(), "utf-8")
    again.give_back(lines)
    return again


def trouble_of(line: Line) -> str | None:
    """Return what is wrong with a line as such."""
    if not line.whole:
        return f"longer than {ROW_LIMIT:,} characters"
    byte = broken_byte(line.text)
    return f"byte {byte} does not fit the file's encoding" if byte else None


def _fields(lines: Lines, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the starting line and the fields of each CSV record, or what is wrong with it; go on at the next line."""
    for start in lines:
        if not start.text.strip():
            continue
        used = [start]
        try:
            yield start.number, _parse(start, lines, used, delimiter)
        except (csv.Error, ValueError) as error:
            lines.give_back(used[1:])
            message = str(error)
            if "expected after" in message or "end of data" in message:
                message = 'a quote (") is not closed, or stands inside a quoted field: there it is written twice ("")'
            yield start.number, message


def _parse(start: Line, lines: Lines, used: list[Line], delimiter: str) -> list[str]:
    def feed() -> Iterator[str]:
        size, line = 0, start
        while True:
            if trouble := trouble_of(line):
                raise ValueError(trouble)
            size += len(line.text)
            if size > ROW_LIMIT:
                raise ValueError(f'longer than {ROW_LIMIT:,} characters; is a quote (") not closed?')
            yield line.text
            following = next(lines, None)
            if following is None:
                return
            used.append(line := following)

    usual = csv.field_size_limit(ROW_LIMIT + 1)
    try:
        return next(csv.reader(feed(), delimiter=delimiter, strict=True))
    finally:
        csv.field_size_limit(usual)


def _csv_records(rows: Iterator[tuple[int, list[str] | str]], columns: tuple[str, ...]) -> Iterator[Record | Fault]:
    for row, (line, fields) in enumerate(rows, 1):
        if isinstance(fields, str):
            yield Fault(row, line, fields)
        elif len(fields) != len(columns):
            count = f"{len(fields)} field{'s' * (len(fields) > 1)}, but the header has {len(columns)}"
            yield Fault(row, line, f"{count}; a text that holds the delimiter needs quotes")
        else:
            yield Record(row, line, dict(zip(columns, fields, strict=True)))


def _jsonl_records(lines: Lines) -> Iterator[Record | Fault]:
    row = 0
    for line in lines:
        if not line.text.strip():
            continue
        row += 1
        trouble = trouble_of(line)
        values: Any = None
        if trouble is None:
            try:
                values = as_object(json.loads(line.text))
                if not isinstance(values, dict):
                    trouble = f"found JSON {kind_of(values)}, expected an object"
            except json.JSONDecodeError as error:
                trouble = f"not valid JSON at column {error.colno}: {error.msg}"
            except (ValueError, RecursionError):
                trouble = "not usable JSON: nested too deeply, or a number too long"
        yield Record(row, line.number, values) if trouble is None else Fault(row, line.number, trouble)


def _text_records(lines: Lines) -> Iterator[Record | Fault]:
    for line in lines:
        trouble = trouble_of(line)
        yield Fault(line.number, line.number, trouble) if trouble else Record(line.number, line.number, {"text": line.text})


_READERS = {"jsonl": _jsonl_records, "text": _text_records}


def kind_of(value: object) -> str:
    """Return a value's kind in JSON's words."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (str, "string"), ((int, float), "number"), (dict, "object"), ((list, tuple), "array"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)


def _parquet(path: Path, stream: IO[bytes]) -> Table:
    magic = stream.read(4)
    if magic != b"PAR1":
        raise DataError(
            f"{path}: is empty" if not magic else f"{path}: is not Parquet, whatever its name says",
            remedy="give it the suffix of what it is: .csv, .tsv or .jsonl",
        )
    polars = require("polars", extra="train")
    try:
        schema = polars.read_parquet_schema(path)
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException) as error:
        raise DataError(f"{path}: damaged Parquet ({_brief(error)})", remedy="write it again") from error
    columns = tuple(name for name, kind in schema.items() if not isinstance(kind, polars.Struct))
    return Table("parquet", "utf-8", "", columns, _parquet_records(path, columns))


def _parquet_records(path: Path, columns: tuple[str, ...]) -> Iterator[Record | Fault]:
    polars = require("polars", extra="train")
    frame = polars.scan_parquet(path).select(columns)
    row = 0
    while True:
        try:
            part = frame.slice(row, _SLICE).collect()
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
            raise DataError(f"{path}: cannot be read after row {row} ({_brief(error)})", remedy="write it again") from error
        for values in part.iter_rows(named=True):
            row += 1
            yield Record(row, None, values)
        if len(part) < _SLICE:
            return


def _brief(error: BaseException) -> str:
    return str(error).partition("\n")[0][:120]
