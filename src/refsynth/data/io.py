"""Labelled and unlabelled rows from the user's files, with row numbers; what is wrong is said with place and remedy.

`read_examples` reads a labelled file whole, for training and evaluation; `iter_rows` streams texts, for prediction. A row's
number is that of the data row (header and blank lines do not count); messages add the physical line. Texts come out cleaned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from refsynth.core.errors import DataError, counted
from refsynth.core.marks import MarkError
from refsynth.core.sections import Columns, Quoting, parts_of
from refsynth.core.types import Example
from refsynth.data.account import SkippedRow, describe_skipped, describe_thin, write_skipped
from refsynth.data.columns import check_columns
from refsynth.data.excel import SUFFIXES
from refsynth.data.joined import join_columns
from refsynth.data.judge import SHOWN, Bad, Judge, Spans, label_of, left_out, no_string, row_error, text_of
from refsynth.data.labelled import open_table, standard_input
from refsynth.data.labels import Known, describe_variants
from refsynth.data.stream import NAME as STREAM
from refsynth.data.table import Fault, Format, Record, Table, distinct
from refsynth.data.tagged import TOKENS, read_plain, read_tagged, text_key
from refsynth.data.text import clean, normalise

__all__ = [
    "BadRow",
    "Loaded",
    "Reading",
    "Row",
    "SkippedRow",
    "Spans",
    "check_header",
    "iter_rows",
    "open_rows",
    "read_examples",
    "readable",
    "write_skipped",
]


@dataclass(frozen=True)
class Loaded:
    """What a labelled file gave: the examples in its order, and the account of the other rows.

    `rows` counts all data rows, `counts` the examples of each label of the task; `conflicts` has the row numbers of each text
    that carries more than one label; `notes` are sentences for the user.
    """

    examples: tuple[Example, ...]
    skipped: tuple[SkippedRow, ...]
    format: Format
    encoding: str
    delimiter: str
    rows: int
    counts: Mapping[str, int]
    conflicts: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


class Row(NamedTuple):
    """A text to predict, with what else the row said; its `id` is as JSON has it.

    `values` are all of its cells, from `open_rows` only.
    """

    number: int
    text: str
    id: Any
    label: str | None
    values: Mapping[str, Any] = {}


class BadRow(NamedTuple):
    """A row that cannot be predicted, and why; `values` are its cells, from `open_rows`, where they could be told apart."""

    number: int
    message: str
    values: Mapping[str, Any] = {}


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


def read_examples(
    path: Path,
    *,
    labels: Collection[str],
    columns: Columns = Columns(),  # noqa: B008 - frozen
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: Quoting | None = None,
    sheet: str | None = None,
    separator: str | None = None,
    merge: bool = False,
    spans: Spans = "none",
    skip_bad: bool = False,
    least_labels: int = 2,
) -> Loaded:
    """Read a labelled CSV, TSV, JSONL, Parquet or Excel file.

    Rows without text or label, or with a label that a person refused, are left out and counted. So are repetitions of a text with
    the same label (the first stays) and all rows of a text that carries two labels. Example ids are `row-<number>`.

    Args:
        path: the file.
        labels: the task's labels; a class without rows is only noted.
        columns: the names of its columns.
        delimiter: of a CSV file; detected if None.
        encoding: of the text; detected if None.
        quoting: of a CSV file; detected if None.
        sheet: of a workbook; the first if None.
        separator: what stands between the labels in a cell, where a row may have any number of them (JSON lists need none); an
            empty list and a cell with `(none)` mean none of them. None where each row has one label.
        merge: whether labels that differ only in case, spaces or Unicode form are one.
        spans: `marked` where labels are of words, see `data.tagged`.
        skip_bad: whether malformed rows and unknown labels are left out like the others instead of being errors.
        least_labels: the fewest labels that must have rows.

    Raises:
        DataError: the file cannot be read, lacks a column, has a bad row, or has rows of too few labels.
    """
    with open_table(path, delimiter=delimiter, encoding=encoding, quoting=quoting, sheet=sheet) as table:
        table = join_columns(table, columns)
        judge = Judge(columns, labels, separator, spans, merge)
        found, skipped, rows = _scan(path, table, judge, skip_bad=skip_bad)
    kept, repeated, conflicts = _resolve(found)
    skipped = sorted([*skipped, *repeated], key=lambda row: row.row)
    counts = Counter(name for example in kept for name in dict.fromkeys(judge.names(example.label)))
    if len(counts) < least_labels:
        raise _too_few(path, judge, rows, counts, skipped)
    ordered = {label: counts[label] for label in labels}
    notes = (*describe_skipped(skipped), *describe_thin(ordered), *judge.notes(), *table.notes)
    if not merge and (alike := describe_variants(labels)):
        notes = (*notes, alike)
    return Loaded(
        tuple(kept), tuple(skipped), table.format, table.encoding, table.delimiter, rows, ordered, tuple(conflicts), notes
    )


def _scan(path: Path, table: Table, judge: Judge, *, skip_bad: bool) -> tuple[list[Example], list[SkippedRow], int]:
    """Return the usable rows of an open table, the others, and the number of all."""
    if table.columns is not None:
        judge.check(path, table.columns, table.delimiter)
    found: list[Example] = []
    skipped: list[SkippedRow] = []
    keys: set[str] = set()
    rows = 0
    for record in table.records:
        rows += 1
        if isinstance(record, Record) and table.columns is None:
            keys.update(record.values)
        verdict = judge(record)
        if isinstance(verdict, Example):
            found.append(verdict)
            continue
        if isinstance(verdict, Bad) and not skip_bad:
            raise row_error(path, record, verdict)
        skipped.append(SkippedRow(record.row, verdict.reason, verdict.detail))
    if keys:  # what JSONL rows are called is known only now
        judge.check(path, sorted(keys), "")
    return found, skipped, rows


def _resolve(examples: Sequence[Example]) -> tuple[list[Example], list[SkippedRow], list[tuple[int, ...]]]:
    """Keep one of each repeated text, and none whose text (as compared) carries two labels; those come as groups of rows too."""
    carriers: dict[str, list[Example]] = {}
    for example in examples:
        carriers.setdefault(normalise(example.text), []).append(example)
    kept: list[Example] = []
    skipped: list[SkippedRow] = []
    conflicts: list[tuple[int, ...]] = []
    for group in carriers.values():
        labels = {example.label: _number(example) for example in reversed(group)}
        if len(labels) > 1:
            conflicts.append(tuple(map(_number, group)))
            for example in group:
                others = ", ".join(f"'{label}' in row {labels[label]}" for label in sorted(set(labels) - {example.label}))
                skipped.append(SkippedRow(_number(example), "conflict", f"'{example.label}' here, but {others}"))
            continue
        first: dict[str, Example] = {}
        for example in group:
            if first.setdefault(example.text, example) is not example:
                skipped.append(SkippedRow(_number(example), "duplicate", f"the same as row {_number(first[example.text])}"))
        kept.extend(first.values())
    return sorted(kept, key=_number), skipped, conflicts


def _number(example: Example) -> int:
    return int(example.id.removeprefix("row-"))


def _too_few(path: Path, judge: Judge, rows: int, counts: Mapping[str, int], skipped: Sequence[SkippedRow]) -> DataError:
    what = f"rows of one label only ('{next(iter(counts))}')" if counts else "no usable rows"
    if not rows:
        what = "no rows below the header" if path.suffix.lower() in (".csv", ".tsv", ".tab", *SUFFIXES) else "no rows"
        return DataError(f"{path}: {what}", expected="labelled rows of at least two labels")
    account = "; ".join(describe_skipped(skipped))
    first = next((f"; row {row.row}: {row.detail}" for row in skipped if row.detail), "")
    columns = judge.columns
    taken = f"text from column {' and '.join(columns.texts)}, label from column {columns.label}"
    remedy = "correct the rows, or name other columns (data.columns in task.yaml; --text-column and --label-column)"
    return DataError(
        f"{path}: {what}, of {rows} ({account or 'none dropped'}){first}",
        expected=f"labelled rows of at least two labels; {taken}",
        remedy="; ".join(part for part in (describe_variants(judge.labels), remedy) if part),
    )


def check_header(
    path: Path,
    *,
    columns: Columns,
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: Quoting | None = None,
    sheet: str | None = None,
    spans: Spans = "none",
) -> None:
    """See that a labelled table has its columns, before anything depends on it; no row is read. JSONL has no header.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    with open_table(path, delimiter=delimiter, encoding=encoding, quoting=quoting, sheet=sheet, plain=True) as table:
        table = join_columns(table, columns)
        if table.columns is not None:
            Judge(columns, (), None, spans).check(path, table.columns, table.delimiter)


def iter_rows(
    source: Path | IO[bytes],
    *,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: Quoting | None = None,
    sheet: str | None = None,
    separator: str | None = None,
    spans: Spans = "none",
    labels: Collection[str] = (),
    merge: bool = False,
) -> Iterator[Row | BadRow]:
    """Yield the rows of a CSV, TSV, JSONL, Parquet, Excel or text file (one text per line), or of a stream, as they come.

    Of text formats one row is in memory at a time, of Parquet 10,000 (and what the file packs with them); a sheet of Excel is
    held by a process of its own. A value under `id` and one under the label's column are passed on where they are there.

    Args:
        source: a file, or an open stream such as `sys.stdin.buffer`, see `data.stream`.
        columns: the names of the columns.
        delimiter: of a CSV file; detected if None.
        encoding: of the text; detected if None.
        quoting: of a CSV file; detected if None.
        sheet: of a workbook; the first if None.
        separator: what stands between the labels in a cell; None where each row has one label.
        spans: whether labels are of words, see `data.tagged`, and are read.
        labels: those of the task: a row's label of the same value as one of them is that one; others stay as they are.
        merge: whether labels that differ only in case, spaces or Unicode form are one.

    Raises:
        DataError: the file cannot be read or lacks the column of the text. A bad row never raises.
    """
    with open_rows(
        source,
        columns=columns,
        delimiter=delimiter,
        encoding=encoding,
        quoting=quoting,
        sheet=sheet,
        separator=separator,
        spans=spans,
        labels=labels,
        merge=merge,
    ) as reading:
        yield from (row._replace(values={}) for row in reading.rows)


@contextmanager
def open_rows(
    source: Path | IO[bytes],
    *,
    columns: Columns,
    otherwise: Columns | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: Quoting | None = None,
    sheet: str | None = None,
    separator: str | None = None,
    spans: Spans = "none",
    labels: Collection[str] = (),
    merge: bool = False,
) -> Iterator[Reading]:
    """Open a file or stream of texts, for its rows and for what they were read with.

    Args:
        source: as in `iter_rows`.
        columns: the names of the columns.
        otherwise: what is taken where the file has these and not those of `columns`.
        delimiter: of a CSV file; detected if None.
        encoding: of the text; detected if None.
        quoting: of a CSV file; detected if None.
        sheet: of a workbook; the first if None.
        separator: what stands between the labels in a cell; None where each row has one label.
        spans: whether labels are of words, see `data.tagged`, and are read.
        labels: those of the task, as in `iter_rows`.
        merge: as in `iter_rows`.

    Raises:
        DataError: the file cannot be read or lacks the column of the text. A bad row never raises.
    """
    usual, known = otherwise or columns, Known(labels, merge=merge) if labels else None
    if isinstance(source, Path):
        name = source
        opened = open_table(source, delimiter=delimiter, encoding=encoding, quoting=quoting, sheet=sheet, plain=True)
    else:
        name, wanted = Path(STREAM), {part for each in (columns, usual) for text in each.texts for part in parts_of(text)}
        named = columns.text == usual.text != Columns().text
        opened = standard_input(source, wanted=wanted, named=named, delimiter=delimiter, encoding=encoding, quoting=quoting)
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
    keys = tuple(first.values) if isinstance(first, Record) else ()
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
        if isinstance(record, Fault):
            yield BadRow(record.row, record.message)
        elif trouble := _unreadable(record, columns, tokens=spans != "none"):
            yield BadRow(record.row, trouble, record.values)
        else:
            yield _spanned(record, columns, spans) if spans != "none" else _labelled(record, columns, separator, known)


def _labelled(record: Record, columns: Columns, separator: str | None, known: Known | None) -> Row:
    refused = columns.label not in record.values or left_out(record, columns) is not None
    label = None if refused else label_of(record, columns, separator)
    if label and known is not None:
        label = known.answer(label, several=separator is not None)
    return Row(record.row, text_of(record, columns), _own_id(record), label or None, record.values)


def _spanned(record: Record, columns: Columns, spans: Spans) -> Row | BadRow:
    try:
        if spans == "ignored" or left_out(record, columns) is not None:
            return Row(record.row, read_plain(record.values, columns), _own_id(record), None, record.values)
        row = read_tagged(record.values, columns)
    except MarkError as error:
        return BadRow(record.row, str(error), record.values)
    return Row(record.row, row.text, _own_id(record), row.label, record.values)


def _own_id(record: Record) -> Any:
    return record.values.get("id")


def _unreadable(record: Record, columns: Columns, *, tokens: bool) -> str | None:
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
