"""Labelled and unlabelled rows from the user's files, with row numbers; what is wrong is said with place and remedy.

`read_examples` reads a labelled file whole, for training and evaluation; `iter_rows` streams texts, for prediction. A row's
number is that of the data row (header and blank lines do not count); messages add the physical line. Texts come out cleaned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from refsynth.core.errors import DataError, counted
from refsynth.core.marks import MarkError
from refsynth.core.sections import Columns
from refsynth.core.types import Example
from refsynth.data.account import SkippedRow, describe_skipped, describe_thin, write_skipped
from refsynth.data.columns import check_columns, text_columns
from refsynth.data.judge import SHOWN, Bad, Judge, Spans, label_of, no_string, row_error, text_of
from refsynth.data.labelled import open_table, standard_input, unread_notes
from refsynth.data.records import Fault, Format, Record, Table
from refsynth.data.tagged import TOKENS, read_plain, read_tagged, text_key
from refsynth.data.text import clean, normalise

__all__ = [
    "BadRow",
    "Loaded",
    "Row",
    "SkippedRow",
    "Spans",
    "check_header",
    "iter_rows",
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
    """A text to predict, with what else the row said."""

    number: int
    text: str
    id: str | None
    label: str | None


class BadRow(NamedTuple):
    """A row that cannot be predicted, and why."""

    number: int
    message: str


def read_examples(
    path: Path,
    *,
    labels: Collection[str],
    columns: Columns = Columns(),  # noqa: B008 - frozen
    delimiter: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    spans: Spans = "none",
    skip_bad: bool = False,
    least_labels: int = 2,
) -> Loaded:
    """Read a labelled CSV, TSV, JSONL or Parquet file.

    Rows without text or label are left out and counted. So are repetitions of a text with the same label (the first stays) and
    all rows of a text that carries two labels. Example ids are `row-<number>`.

    Args:
        path: the file.
        labels: the task's labels; a class without rows is only noted.
        columns: the names of its columns.
        delimiter: of a CSV file; detected if None.
        encoding: of the text; detected if None.
        separator: what stands between the labels in a cell, where a row may have any number of them (JSON lists need none); an
            empty list and a cell with `(none)` mean none of them. None where each row has one label.
        spans: `marked` where labels are of words, see `data.tagged`.
        skip_bad: whether malformed rows and unknown labels are left out like the others instead of being errors.
        least_labels: the fewest labels that must have rows.

    Raises:
        DataError: the file cannot be read, lacks a column, has a bad row, or has rows of too few labels.
    """
    with open_table(path, delimiter=delimiter, encoding=encoding) as table:
        judge = Judge(columns, labels, separator, spans)
        found, skipped, rows = _scan(path, table, judge, skip_bad=skip_bad)
    kept, repeated, conflicts = _resolve(found)
    skipped = sorted([*skipped, *repeated], key=lambda row: row.row)
    counts = Counter(name for example in kept for name in dict.fromkeys(judge.names(example.label)))
    if len(counts) < least_labels:
        raise _too_few(path, rows, counts, skipped)
    ordered = {label: counts[label] for label in labels}
    notes = (*describe_skipped(skipped), *describe_thin(ordered), *judge.notes(), *unread_notes(table.unread))
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


def _too_few(path: Path, rows: int, counts: Mapping[str, int], skipped: Sequence[SkippedRow]) -> DataError:
    what = f"rows of one label only ('{next(iter(counts))}')" if counts else "no usable rows"
    if not rows:
        what = "no rows below the header" if path.suffix.lower() in (".csv", ".tsv", ".tab") else "no rows"
    account = "; ".join(describe_skipped(skipped))
    return DataError(
        f"{path}: {what}" + (f", of {rows} ({account})" if account else ""), expected="labelled rows of at least two labels"
    )


def check_header(
    path: Path, *, columns: Columns, delimiter: str | None = None, encoding: str | None = None, spans: Spans = "none"
) -> None:
    """See that a labelled table has its columns, before anything depends on it; no row is read. JSONL has no header.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    with open_table(path, delimiter=delimiter, encoding=encoding, plain=True) as table:
        if table.columns is not None:
            Judge(columns, (), None, spans).check(path, table.columns, table.delimiter)


def iter_rows(
    source: Path | IO[bytes],
    *,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    delimiter: str | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    spans: Spans = "none",
) -> Iterator[Row | BadRow]:
    """Yield the rows of a CSV, TSV, JSONL, Parquet or text file (one text per line), or of a stream, as they come.

    Memory does not grow with the file. A value under `id` and one under the label's column are passed on where they are there.

    Args:
        source: a file, or an open stream such as `sys.stdin.buffer`: JSONL if it begins with `{`, else one text per line.
        columns: the names of the columns.
        delimiter: of a CSV file; detected if None.
        encoding: of the text; detected if None (a stream is UTF-8).
        separator: what stands between the labels in a cell; None where each row has one label.
        spans: whether labels are of words, see `data.tagged`, and are read.

    Raises:
        DataError: the file cannot be read or lacks the column of the text. A bad row never raises.
    """
    if not isinstance(source, Path):
        with standard_input(source, encoding=encoding) as table:
            yield from _rows(table, columns, separator, spans)
        return
    with open_table(source, delimiter=delimiter, encoding=encoding, plain=True) as table:
        if table.format != "text" and table.columns is not None and not (spans != "none" and TOKENS in table.columns):
            check_columns(source, table.columns, columns, labelled=False, delimiter=table.delimiter)
        yield from _rows(table, columns, separator, spans)


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


def _rows(table: Table, columns: Columns, separator: str | None, spans: Spans) -> Iterator[Row | BadRow]:
    if table.format == "text" and columns.text != "text":  # one text a line, whatever it would be called elsewhere
        columns = columns.model_copy(update={"text": "text"})
    for record in table.records:
        if isinstance(record, Fault):
            yield BadRow(record.row, record.message)
        elif trouble := _unreadable(record, columns, tokens=spans != "none"):
            yield BadRow(record.row, trouble)
        else:
            yield _spanned(record, columns, spans) if spans != "none" else _labelled(record, columns, separator)


def _labelled(record: Record, columns: Columns, separator: str | None) -> Row:
    label = label_of(record, columns, separator) if columns.label in record.values else None
    return Row(record.row, text_of(record, columns), _own_id(record), label or None)


def _spanned(record: Record, columns: Columns, spans: Spans) -> Row | BadRow:
    try:
        if spans == "ignored":
            return Row(record.row, read_plain(record.values, columns), _own_id(record), None)
        row = read_tagged(record.values, columns)
    except MarkError as error:
        return BadRow(record.row, str(error))
    return Row(record.row, row.text, _own_id(record), row.label)


def _own_id(record: Record) -> str | None:
    own = record.values.get("id")
    return None if own is None else str(own)


def _unreadable(record: Record, columns: Columns, *, tokens: bool) -> str | None:
    """Return why a row gives no text; `tokens` says that it may be a list of them."""
    for name in (text_key(record.values, columns),) if tokens else text_columns(columns):
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
