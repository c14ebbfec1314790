"""Reads a labeled file whole, for training. Errors name the place and the remedy.

Rows are numbered without the header and blank lines; messages add the physical line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from refsynth.core.errors import DataError
from refsynth.core.sections import Columns, FileFormat
from refsynth.core.types import Example
from refsynth.core.value import spell
from refsynth.data.account import RowPlace, SkippedRow, describe_skipped, describe_thin
from refsynth.data.columns import own_id
from refsynth.data.formats import open_table
from refsynth.data.joined import join_columns
from refsynth.data.labels import describe_variants
from refsynth.data.row_reader import Bad, RowReader, Spans, row_error
from refsynth.data.source import WORKBOOKS
from refsynth.data.table import Format, Table, TableRecord, sheet_row
from refsynth.data.text import normalize


@dataclass(frozen=True)
class LoadedRows:
    """The examples of a labeled file, in file order, and a list of the rows that were left out.

    Attributes:
        rows: number of data rows, those left out included.
        counts: number of examples of each of the task's labels.
        conflicts: row numbers of each text that has more than one label.
        notes: sentences for the user.
        places: where each example stands in the file, by example id.
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
    places: Mapping[str, RowPlace]


def read_examples(
    path: Path,
    *,
    labels: Collection[str],
    columns: Columns = Columns(),  # noqa: B008 - frozen
    separator: str | None = None,
    merge: bool = False,
    spans: Spans = "none",
    skip_bad: bool = False,
    least_labels: int = 2,
    **how: Unpack[FileFormat],
) -> LoadedRows:
    """Read a labeled CSV, TSV, JSONL, Parquet or Excel file.

    Rows are left out and counted if they have no text, no label, or a label that an annotator rejected. If a text repeats with
    the same label, only its first row stays; if it has two labels, none does. Example ids are `row-<number>`.

    Args:
        path: the file.
        labels: the task's labels. A label without rows is only noted.
        columns: the names of the file's columns.
        separator: the string between labels in a cell, if a row may have any number of labels (JSON lists need none). An
            empty list and a cell with `(none)` mean no label. None if each row has exactly one label.
        merge: treat labels that differ only in case, spaces or Unicode form as one.
        spans: `marked` if labels belong to words, see `data.tagged`.
        skip_bad: leave out malformed rows and unknown labels instead of raising.
        least_labels: the fewest labels that must have rows.
        how: encoding, delimiter, quoting and sheet of the file.

    Raises:
        DataError: the file cannot be read, lacks a column, has a bad row, or has rows of too few labels.
    """
    with open_table(path, **how) as table:
        table = join_columns(table, columns)
        reader = RowReader(columns, labels, separator, spans, merge)
        examples, skipped, places = _scan(path, table, reader, skip_bad=skip_bad)
    rows = len(places)
    kept, repeated, conflicts = _resolve(examples)
    skipped = sorted((replace(row, place=places[row.row]) for row in (*skipped, *repeated)), key=lambda row: row.row)
    counts = Counter(name for example in kept for name in dict.fromkeys(reader.names(example.label)))
    if len(counts) < least_labels:
        raise _too_few(path, reader, rows, counts, skipped)
    ordered = {label: counts[label] for label in labels}
    notes = (*describe_skipped(skipped), *describe_thin(ordered), *reader.notes(), *table.notes)
    if not merge and (alike := describe_variants(labels)):
        notes = (*notes, alike)
    return LoadedRows(
        tuple(kept), tuple(skipped), table.format, table.encoding, table.delimiter, rows, ordered, tuple(conflicts), notes,
        {example.id: places[_number(example)] for example in kept},
    )  # fmt: skip


def _scan(
    path: Path, table: Table, reader: RowReader, *, skip_bad: bool
) -> tuple[list[Example], list[SkippedRow], dict[int, RowPlace]]:
    """Return the examples of an open table, the rows left out, and the place of every row by its number."""
    if table.columns is not None:
        reader.check(path, table.columns, table.delimiter)
    examples: list[Example] = []
    skipped: list[SkippedRow] = []
    keys: set[str] = set()
    places: dict[int, RowPlace] = {}
    for record in table.records:
        own = own_id(record.values, reader.columns) if isinstance(record, TableRecord) else None
        places[record.row] = RowPlace(path.name, sheet_row(record), spell(own) or "")
        if isinstance(record, TableRecord) and table.columns is None:
            keys.update(record.values)
        verdict = reader(record)
        if isinstance(verdict, Example):
            examples.append(verdict)
            continue
        if isinstance(verdict, Bad) and not skip_bad:
            raise row_error(path, record, verdict)
        skipped.append(SkippedRow(record.row, verdict.reason, verdict.detail))
    if keys:  # the keys of JSONL rows are known only after all rows were read
        reader.check(path, sorted(keys), "")
    return examples, skipped, places


def _resolve(examples: Sequence[Example]) -> tuple[list[Example], list[SkippedRow], list[tuple[int, ...]]]:
    """Return one example of each repeated text, the rows left out, and the row numbers of each text with two labels."""
    by_text: dict[str, list[Example]] = {}
    for example in examples:
        by_text.setdefault(normalize(example.text), []).append(example)
    kept: list[Example] = []
    skipped: list[SkippedRow] = []
    conflicts: list[tuple[int, ...]] = []
    for group in by_text.values():
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


def _too_few(path: Path, reader: RowReader, rows: int, counts: Mapping[str, int], skipped: Sequence[SkippedRow]) -> DataError:
    what = f"rows of one label only ('{next(iter(counts))}')" if counts else "no usable rows"
    if not rows:
        what = "no rows below the header" if path.suffix.lower() in (".csv", ".tsv", ".tab", *WORKBOOKS) else "no rows"
        return DataError(f"{path}: {what}", expected="labeled rows of at least two labels")
    dropped = "; ".join(describe_skipped(skipped))
    first = next((f"; row {row.row}: {row.detail}" for row in skipped if row.detail), "")
    columns = reader.columns
    source = f"text from column {' and '.join(columns.texts)}, label from column {columns.label}"
    remedy = "correct the rows, or name other columns (data.columns in task.yaml; --text-column and --label-column)"
    return DataError(
        f"{path}: {what}, of {rows} ({dropped or 'none dropped'}){first}",
        expected=f"labeled rows of at least two labels; {source}",
        remedy="; ".join(part for part in (describe_variants(reader.labels), remedy) if part),
    )


def check_header(path: Path, *, columns: Columns, spans: Spans = "none", **how: Unpack[FileFormat]) -> None:
    """Check that a labeled table has its columns, without reading a row. JSONL has no header and always passes.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    with open_table(path, plain=True, **how) as table:
        table = join_columns(table, columns)
        if table.columns is not None:
            RowReader(columns, (), None, spans).check(path, table.columns, table.delimiter)
