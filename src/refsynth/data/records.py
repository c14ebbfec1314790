"""Reads a data file as numbered records: CSV, TSV, JSONL, Parquet, plain text. Knows nothing of texts or labels.

Rows are counted from 1 in file order, without the header and blank lines (in plain text, one text per line, every line
counts). A faulty row becomes a `Fault`; only a file that cannot be read raises.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Unpack

from refsynth.core.errors import DataError
from refsynth.core.sections import FileFormat, Quoting
from refsynth.data.cells import restored
from refsynth.data.dialect import CsvRecord, check_delimiter, detect_dialect, named_delimiter, records_of
from refsynth.data.excel import open_excel
from refsynth.data.exports import as_object, as_row
from refsynth.data.parquet import open_parquet
from refsynth.data.source import WORKBOOKS, Lines, check_encoding, detect_encoding, lines_of, opened, trouble_of
from refsynth.data.table import Fault, Format, Table, TableRecord, distinct, kind_of

_SUFFIXES: Mapping[str, Format] = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet",
    **dict.fromkeys(WORKBOOKS, "excel"),
}  # fmt: skip


@contextmanager
def open_plain(path: Path, *, plain: bool = False, **how: Unpack[FileFormat]) -> Iterator[Table]:
    """Open a data file by its suffix, or by its content if the suffix is unknown. `formats.open_table` reads exports too.

    Raises:
        DataError: the file cannot be read, or has none of the formats.
    """
    with opened(path) as stream:
        kind = "text" if plain and path.suffix.lower() == ".txt" else form_of(path)
        if kind == "excel":
            with open_excel(path, sheet=how.get("sheet")) as table:
                yield table
            return
        if kind == "parquet" or (kind is None and stream.peek(4)[:4] == b"PAR1"):  # type: ignore[attr-defined]
            yield open_parquet(path, stream)
            return
        named = how.get("encoding")
        encoding, guessed = (check_encoding(named), False) if named else detect_encoding(stream, name=str(path))
        with lines_of(stream, encoding) as lines:
            tabs = "\t" if path.suffix.lower() in (".tsv", ".tab") else None
            table = text_table(
                lines, name=str(path), kind=kind, tabs=tabs, encoding=encoding, delimiter=how.get("delimiter"),
                quoting=how.get("quoting"),
            )  # fmt: skip
            table.notes.extend(encoding_notes(encoding, guessed=guessed))
            yield table


def form_of(path: Path) -> Format | None:
    """Return the format of a file by its suffix; None if the suffix is unknown."""
    return _SUFFIXES.get(path.suffix.lower())


def encoding_notes(encoding: str, *, guessed: bool) -> list[str]:
    """Return the note that a file's encoding is a guess, if it is."""
    wrong = "is a guess: if letters look wrong, name it (data.encoding, --encoding), such as cp1252, cp437 or mac-roman"
    return [f"the encoding {encoding} {wrong}"] if guessed else []


def text_table(
    lines: Lines,
    *,
    name: str,
    kind: Format | None,
    tabs: str | None,
    encoding: str,
    delimiter: str | None,
    quoting: Quoting | None,
) -> Table:
    """Open a table from lines by its kind; if that is None, by the first character.

    Raises:
        DataError: there are no rows, or they have none of the formats.
    """
    first = first_line(lines)
    if not first:
        raise DataError(f"{name}: is empty", expected="rows, and in CSV a header that names the columns")
    if first.startswith("[") and kind in ("jsonl", None) and not as_row(first):
        raise DataError(f"{name}: is one JSON array", expected="one JSON object per line", remedy="convert it: jq -c '.[]'")
    kind = kind or ("jsonl" if first.startswith("{") or as_row(first) else "csv")
    if kind != "csv":
        return Table(kind, encoding, "", ("text",) if kind == "text" else None, _READERS[kind](lines), [])
    sep = named_delimiter(lines)
    dialect = detect_dialect(lines, check_delimiter(delimiter) if delimiter else sep or tabs, quoting)
    rows = records_of(lines, dialect)
    header = next(rows, None)
    if header is None:
        raise DataError(f"{name}: is empty below the line sep={sep}", expected="a header that names the columns, and rows")
    if isinstance(header.fields, str):
        raise DataError(f"{name}: the header cannot be read: {header.fields}", expected="column names in the first line")
    columns = tuple(restored(column.strip()) for column in header.fields)
    notes = [note for note in (dialect.describe(),) if note]
    return Table("csv", encoding, dialect.delimiter, columns, _csv_records(rows, columns), notes)


def first_line(lines: Lines) -> str:
    """Return the first line that is not blank, stripped. All lines read are given back."""
    read = lines.through_first()
    lines.give_back(read)
    return read[-1].text.strip() if read else ""


def _csv_records(rows: Iterator[CsvRecord], columns: tuple[str, ...]) -> Iterator[TableRecord | Fault]:
    keys = distinct(columns)
    for row, (line, sheet, fields) in enumerate(rows, 1):
        if isinstance(fields, str):
            yield Fault(row, line, fields, sheet)
        elif len(fields) != len(columns):
            count = f"{len(fields)} field{'s' * (len(fields) > 1)}, but the header has {len(columns)}"
            yield Fault(row, line, f"{count}; a text that holds the delimiter needs quotes", sheet)
        else:
            yield TableRecord(row, line, dict(zip(keys, map(restored, fields), strict=True)), sheet=sheet)


def _jsonl_records(lines: Lines) -> Iterator[TableRecord | Fault]:
    row = 0
    for line in lines:
        if not line.text.strip():
            continue
        row += 1
        trouble = trouble_of(line)
        values: Any = None
        if trouble is None:
            try:
                values = as_object(json.loads(line.text, parse_constant=constant))
                if not isinstance(values, dict):
                    trouble = f"found JSON {kind_of(values)}, expected an object"
            except json.JSONDecodeError as error:
                trouble = f"not valid JSON at column {error.colno}: {error.msg}"
            except (ValueError, RecursionError):
                trouble = "not usable JSON: nested too deeply, or a number too long"
        yield TableRecord(row, line.number, values) if trouble is None else Fault(row, line.number, trouble)


def constant(name: str) -> float | None:
    """Return the value of a constant in JSON as Python writes it: NaN means a missing value, else it is an infinity."""
    return None if name == "NaN" else float(name)


def _text_records(lines: Lines) -> Iterator[TableRecord | Fault]:
    for line in lines:
        if trouble := trouble_of(line):
            yield Fault(line.number, line.number, trouble)
        else:
            yield TableRecord(line.number, line.number, {"text": line.text.rstrip("\r\n")})


_READERS = {"jsonl": _jsonl_records, "text": _text_records}
