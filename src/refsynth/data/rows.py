"""Streams the rows of the user's files for prediction and evaluation. A row that cannot be read becomes a `BadRow`.

Rows are numbered without the header and blank lines. Texts are cleaned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, Unpack

from refsynth.core.errors import DataError, counted
from refsynth.core.marks import MarkError
from refsynth.core.sections import Columns, FileFormat, parts_of
from refsynth.data.columns import check_columns, own_id
from refsynth.data.formats import open_table, standard_input
from refsynth.data.joined import join_columns
from refsynth.data.labels import Known
from refsynth.data.row_reader import SHOWN, Spans, label_of, left_out, no_string, text_of
from refsynth.data.stream import NAME as STREAM
from refsynth.data.table import Fault, Format, Table, TableRecord, distinct, sheet_row
from refsynth.data.tagged import TOKENS, read_plain, read_tagged, text_key
from refsynth.data.text import clean


class Row(NamedTuple):
    """A text to predict, with the other cells of its row.

    Attributes:
        id: the user's id as JSON holds it, or None.
        values: all cells by column; `open_rows` fills them.
        place: the row in the spreadsheet, or the line; `open_rows` fills it.
    """

    number: int
    text: str
    id: Any
    label: str | None
    values: Mapping[str, Any] = {}
    place: int | None = None


class BadRow(NamedTuple):
    """A row that cannot be predicted, and why. `values` and `id` are filled if `open_rows` could read its cells."""

    number: int
    message: str
    values: Mapping[str, Any] = {}
    place: int | None = None
    id: Any = None


class Reading(NamedTuple):
    """An open file of texts.

    Attributes:
        heads: the names of its columns by their key in a row's `values`; in JSONL, the keys of the first row.
        fixed: whether all rows have these columns.
        taken: the columns from which text and label are read.
        notes: sentences for the user about how the file is read; reading may add more.
    """

    format: Format
    encoding: str
    delimiter: str
    heads: Mapping[str, str]
    fixed: bool
    taken: Columns
    rows: Iterator[Row | BadRow]
    notes: Sequence[str]


class How(FileFormat, total=False):
    """Options for reading rows.

    Attributes:
        separator: the string between the labels in a cell; None if each row has one label.
        spans: whether labels belong to words, see `data.tagged`, and whether they are read.
        labels: the task's labels. A row's label that equals one of them in value takes its spelling; others stay as they are.
        merge: treat labels that differ only in case, spaces or Unicode form as one.
    """

    separator: str | None
    spans: Spans
    labels: Collection[str]
    merge: bool


def iter_rows(
    source: Path | IO[bytes],
    *,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    **how: Unpack[How],
) -> Iterator[Row | BadRow]:
    """Yield the rows of a CSV, TSV, JSONL, Parquet, Excel or text file (one text per line), or of a stream.

    Text formats hold one row in memory at a time, Parquet 10,000 (and their row group); a process of its own holds an Excel
    sheet. Rows carry their id and label if the file has them. Arguments and errors are those of `open_rows`.
    """
    with open_rows(source, columns=columns, **how) as reading:
        for row in reading.rows:
            yield row._replace(values={}, place=None) if isinstance(row, Row) else BadRow(row.number, row.message)


@contextmanager
def open_rows(
    source: Path | IO[bytes],
    *,
    columns: Columns,
    otherwise: Columns | None = None,
    separator: str | None = None,
    spans: Spans = "none",
    labels: Collection[str] = (),
    merge: bool = False,
    **how: Unpack[FileFormat],
) -> Iterator[Reading]:
    """Open a file or stream of texts; yield its rows and how they are read.

    Args:
        source: a file, or an open stream such as `sys.stdin.buffer`, see `data.stream`.
        columns: the names of the columns.
        otherwise: used if the file has these columns and not those of `columns`.
        separator: see `How`.
        spans: see `How`.
        labels: see `How`.
        merge: see `How`.
        how: encoding, delimiter, quoting and sheet of the file.

    Raises:
        DataError: the file cannot be read or lacks the text column. A bad row never raises.
    """
    fallback, known = otherwise or columns, Known(labels, merge=merge) if labels else None
    if isinstance(source, Path):
        name, opened = source, open_table(source, plain=True, **how)
    else:
        name = Path(STREAM)
        texts = {part for names in (columns, fallback) for text in names.texts for part in parts_of(text)}
        opened = standard_input(source, texts=texts, named=columns.text == fallback.text != Columns().text, **how)
    with opened as table:
        found, table = _columns_of(table)
        columns = _present(columns, fallback, found)
        if table.format == "text":  # one text per line, whatever the column is called elsewhere
            columns = columns.model_copy(update={"text": "text"})
        joined = join_columns(table, columns)
        if table.format != "text" and joined.columns is not None and not (spans != "none" and TOKENS in joined.columns):
            check_columns(name, joined.columns, columns, labeled=False, delimiter=table.delimiter)
        rows = _rows(joined, columns, separator, spans, known)
        if joined is not table and (made := {*columns.texts, columns.label} - {*found}):
            rows = _without(rows, made)
        heads = dict(zip(distinct(found), found, strict=True))
        fixed = table.columns is not None
        yield Reading(table.format, table.encoding, table.delimiter, heads, fixed, columns, rows, joined.notes)


def _columns_of(table: Table) -> tuple[tuple[str, ...], Table]:
    """Return the columns of a table (in JSONL the keys of its first row), and the table with all its rows."""
    if table.columns is not None:
        return table.columns, table
    first = next(table.records, None)
    if first is None:
        return (), table
    keys = tuple(first.values) if isinstance(first, TableRecord) else ()
    return keys, table._replace(records=chain([first], table.records))


def _present(columns: Columns, otherwise: Columns, found: Collection[str]) -> Columns:
    """Return the columns; text or label are those of `otherwise` if the file has only these."""

    def has(*names: str) -> bool:
        return all(name in found or {*parts_of(name)} <= {*found} for name in names)

    if not has(*columns.texts) and has(*otherwise.texts):
        columns = columns.model_copy(update={"text": otherwise.text, "pair": otherwise.pair})
    if not has(columns.label) and has(otherwise.label):
        columns = columns.model_copy(update={"label": otherwise.label})
    return columns


def _without(rows: Iterator[Row | BadRow], made: Collection[str]) -> Iterator[Row | BadRow]:
    """Remove the cells that were joined from other cells."""
    for row in rows:
        yield row._replace(values={name: value for name, value in row.values.items() if name not in made})


def readable(path: Path, found: Sequence[Row | BadRow], *, remedy: str) -> list[Row]:
    """Return the readable rows of a file.

    Raises:
        DataError: the file has rows, but none is readable; `remedy` says what to do.
    """
    rows = [row for row in found if isinstance(row, Row)]
    bad = next((row for row in found if isinstance(row, BadRow)), None)
    if bad is not None and not rows:
        raise DataError(
            f"{path}: none of {counted(len(found), 'row')} can be read; row {bad.number}: {bad.message}", remedy=remedy
        )
    return rows


def _rows(
    table: Table, columns: Columns, separator: str | None, spans: Spans, known: Known | None = None
) -> Iterator[Row | BadRow]:
    for record in table.records:
        place = sheet_row(record)
        if isinstance(record, Fault):
            yield BadRow(record.row, record.message, place=place)
            continue
        own = own_id(record.values, columns)
        if trouble := _unreadable(record, columns, tokens=spans != "none"):
            yield BadRow(record.row, trouble, record.values, place, own)
            continue
        try:
            text, label = _spanned(record, columns, spans) if spans != "none" else _labeled(record, columns, separator, known)
        except MarkError as error:
            yield BadRow(record.row, str(error), record.values, place, own)
        else:
            yield Row(record.row, text, own, label, record.values, place)


def _labeled(record: TableRecord, columns: Columns, separator: str | None, known: Known | None) -> tuple[str, str | None]:
    refused = columns.label not in record.values or left_out(record, columns) is not None
    label = None if refused else label_of(record, columns, separator)
    if label and known is not None:
        label = known.respell(label, several=separator is not None)
    return text_of(record, columns), label or None


def _spanned(record: TableRecord, columns: Columns, spans: Spans) -> tuple[str, str | None]:
    """Return text and label; raise `MarkError` if the marks are wrong."""
    if spans == "ignored" or left_out(record, columns) is not None:
        return read_plain(record.values, columns), None
    row = read_tagged(record.values, columns)
    return row.text, row.label


def _unreadable(record: TableRecord, columns: Columns, *, tokens: bool) -> str | None:
    """Return why a row has no text; with `tokens` the text may be a list of them."""
    for name in (text_key(record.values, columns),) if tokens else columns.texts:
        value = record.values.get(name)
        if tokens and isinstance(value, list):
            continue
        if name not in record.values:
            return f"no key '{name}'; keys there: {', '.join(list(record.values)[:SHOWN])}"
        if value is not None and not isinstance(value, str):
            return no_string(name, value)
        if not clean(value or ""):
            return "empty text" if columns.pair is None else f"no text in '{name}'"
    return None
