"""Rows from the user's files as a stream, for prediction and evaluation; one that cannot be read comes as a `BadRow`.

A row's number is that of the data row (header and blank lines do not count). Texts come out cleaned.
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
from refsynth.data.joined import join_columns
from refsynth.data.judge import SHOWN, Spans, label_of, left_out, no_string, text_of
from refsynth.data.labelled import open_table, standard_input
from refsynth.data.labels import Known
from refsynth.data.stream import NAME as STREAM
from refsynth.data.table import Fault, Format, Table, TableRecord, distinct, sheet_row
from refsynth.data.tagged import TOKENS, read_plain, read_tagged, text_key
from refsynth.data.text import clean


class Row(NamedTuple):
    """A text to predict, with what else the row said; its `id` is as JSON has it.

    `values` are all of its cells, and `place` is where a spreadsheet shows it (or the line), from `open_rows` only.
    """

    number: int
    text: str
    id: Any
    label: str | None
    values: Mapping[str, Any] = {}
    place: int | None = None


class BadRow(NamedTuple):
    """A row that cannot be predicted, and why; `values` and `id` are there where `open_rows` could tell its cells apart."""

    number: int
    message: str
    values: Mapping[str, Any] = {}
    place: int | None = None
    id: Any = None


class Reading(NamedTuple):
    """An open file of texts.

    Attributes:
        format: of the file.
        encoding: of its text.
        delimiter: of CSV, else empty.
        heads: what its columns are called, by their key in a row's `values`; those of the first row where rows name their own.
        fixed: whether all rows have these columns.
        taken: the columns that the text is taken from.
        rows: as they come.
        notes: sentences for the user about how it is read; more may come while it is read.
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
    """How rows are read.

    Attributes:
        separator: what stands between the labels in a cell; None where each row has one label.
        spans: whether labels are of words, see `data.tagged`, and are read.
        labels: those of the task: a row's label of the same value as one of them is that one; others stay as they are.
        merge: whether labels that differ only in case, spaces or Unicode form are one.
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
    """Yield the rows of a CSV, TSV, JSONL, Parquet, Excel or text file (one text per line), or of a stream, as they come.

    Of text formats one row is in memory at a time, of Parquet 10,000 (and what the file packs with them); a sheet of Excel is
    held by a process of its own. What a row is called and a value under the label's column are passed on where they are there.
    Arguments and errors are those of `open_rows`.
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
    """Open a file or stream of texts, for its rows and for what they were read with.

    Args:
        source: a file, or an open stream such as `sys.stdin.buffer`, see `data.stream`.
        columns: the names of the columns.
        otherwise: what is taken where the file has these and not those of `columns`.
        separator: see `How`, and so the next three.
        spans: as there.
        labels: as there.
        merge: as there.
        how: the file is written.

    Raises:
        DataError: the file cannot be read or lacks the column of the text. A bad row never raises.
    """
    usual, known = otherwise or columns, Known(labels, merge=merge) if labels else None
    if isinstance(source, Path):
        name, opened = source, open_table(source, plain=True, **how)
    else:
        name, wanted = Path(STREAM), {part for each in (columns, usual) for text in each.texts for part in parts_of(text)}
        opened = standard_input(source, wanted=wanted, named=columns.text == usual.text != Columns().text, **how)
    with opened as table:
        found, table = _columns_of(table)
        columns = _there(columns, usual, found)
        if table.format == "text":  # one text a line, whatever it would be called elsewhere
            columns = columns.model_copy(update={"text": "text"})
        joined = join_columns(table, columns)
        if table.format != "text" and joined.columns is not None and not (spans != "none" and TOKENS in joined.columns):
            check_columns(name, joined.columns, columns, labelled=False, delimiter=table.delimiter)
        rows = _rows(joined, columns, separator, spans, known)
        if made := {*columns.texts, columns.label} - {*found} if joined is not table else set[str]():
            rows = _without(rows, made)
        heads = dict(zip(distinct(found), found, strict=True))
        fixed = table.columns is not None
        yield Reading(table.format, table.encoding, table.delimiter, heads, fixed, columns, rows, joined.notes)


def _columns_of(table: Table) -> tuple[tuple[str, ...], Table]:
    """Return the columns of a table, in JSONL those of its first row, and the table with all its rows still to come."""
    if table.columns is not None:
        return table.columns, table
    first = next(table.records, None)
    if first is None:
        return (), table
    keys = tuple(first.values) if isinstance(first, TableRecord) else ()
    return keys, table._replace(records=chain([first], table.records))


def _there(columns: Columns, otherwise: Columns, found: Collection[str]) -> Columns:
    """Return the columns, with those of `otherwise` for the text and for the label where only these are there."""

    def has(*names: str) -> bool:
        return all(name in found or {*parts_of(name)} <= {*found} for name in names)

    if not has(*columns.texts) and has(*otherwise.texts):
        columns = columns.model_copy(update={"text": otherwise.text, "pair": otherwise.pair})
    if not has(columns.label) and has(otherwise.label):
        columns = columns.model_copy(update={"label": otherwise.label})
    return columns


def _without(rows: Iterator[Row | BadRow], made: Collection[str]) -> Iterator[Row | BadRow]:
    """Take out of the cells what was made of others."""
    for row in rows:
        yield row._replace(values={name: value for name, value in row.values.items() if name not in made})


def readable(path: Path, found: Sequence[Row | BadRow], *, remedy: str) -> list[Row]:
    """Return the rows of a file that can be read.

    Raises:
        DataError: it has rows, and none can; `remedy` says what to do.
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
            text, label = _spanned(record, columns, spans) if spans != "none" else _labelled(record, columns, separator, known)
        except MarkError as error:
            yield BadRow(record.row, str(error), record.values, place, own)
        else:
            yield Row(record.row, text, own, label, record.values, place)


def _labelled(record: TableRecord, columns: Columns, separator: str | None, known: Known | None) -> tuple[str, str | None]:
    refused = columns.label not in record.values or left_out(record, columns) is not None
    label = None if refused else label_of(record, columns, separator)
    if label and known is not None:
        label = known.answer(label, several=separator is not None)
    return text_of(record, columns), label or None


def _spanned(record: TableRecord, columns: Columns, spans: Spans) -> tuple[str, str | None]:
    """Return text and label; raise `MarkError` where the marks are wrong."""
    if spans == "ignored" or left_out(record, columns) is not None:
        return read_plain(record.values, columns), None
    row = read_tagged(record.values, columns)
    return row.text, row.label


def _unreadable(record: TableRecord, columns: Columns, *, tokens: bool) -> str | None:
    """Return why a row gives no text; `tokens` says that it may be a list of them."""
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
