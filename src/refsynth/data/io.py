"""Labelled rows from the user's files, read whole for training; what is wrong is said with place and remedy.

A row's number is that of the data row (header and blank lines do not count); messages add the physical line.
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
from refsynth.data.joined import join_columns
from refsynth.data.judge import Bad, Judge, Spans, row_error
from refsynth.data.labelled import open_table
from refsynth.data.labels import describe_variants
from refsynth.data.source import WORKBOOKS
from refsynth.data.table import Format, Table, TableRecord, sheet_row
from refsynth.data.text import normalise


@dataclass(frozen=True)
class LoadedRows:
    """What a labelled file gave: the examples in its order, and the account of the other rows.

    `rows` counts all data rows, `counts` the examples of each label of the task; `conflicts` has the row numbers of each text
    that carries more than one label; `notes` are sentences for the user; `places` say by id where each example is.
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
    """Read a labelled CSV, TSV, JSONL, Parquet or Excel file.

    Rows without text or label, or with a label that a person refused, are left out and counted. So are repetitions of a text with
    the same label (the first stays) and all rows of a text that carries two labels. Example ids are `row-<number>`.

    Args:
        path: the file.
        labels: the task's labels; a class without rows is only noted.
        columns: the names of its columns.
        separator: what stands between the labels in a cell, where a row may have any number of them (JSON lists need none); an
            empty list and a cell with `(none)` mean none of them. None where each row has one label.
        merge: whether labels that differ only in case, spaces or Unicode form are one.
        spans: `marked` where labels are of words, see `data.tagged`.
        skip_bad: whether malformed rows and unknown labels are left out like the others instead of being errors.
        least_labels: the fewest labels that must have rows.
        how: the file is written.

    Raises:
        DataError: the file cannot be read, lacks a column, has a bad row, or has rows of too few labels.
    """
    with open_table(path, **how) as table:
        table = join_columns(table, columns)
        judge = Judge(columns, labels, separator, spans, merge)
        found, skipped, places = _scan(path, table, judge, skip_bad=skip_bad)
    rows = len(places)
    kept, repeated, conflicts = _resolve(found)
    skipped = sorted((replace(row, place=places[row.row]) for row in (*skipped, *repeated)), key=lambda row: row.row)
    counts = Counter(name for example in kept for name in dict.fromkeys(judge.names(example.label)))
    if len(counts) < least_labels:
        raise _too_few(path, judge, rows, counts, skipped)
    ordered = {label: counts[label] for label in labels}
    notes = (*describe_skipped(skipped), *describe_thin(ordered), *judge.notes(), *table.notes)
    if not merge and (alike := describe_variants(labels)):
        notes = (*notes, alike)
    return LoadedRows(
        tuple(kept), tuple(skipped), table.format, table.encoding, table.delimiter, rows, ordered, tuple(conflicts), notes,
        {example.id: places[_number(example)] for example in kept},
    )  # fmt: skip


def _scan(
    path: Path, table: Table, judge: Judge, *, skip_bad: bool
) -> tuple[list[Example], list[SkippedRow], dict[int, RowPlace]]:
    """Return the usable rows of an open table, the others, and where all are, by their numbers."""
    if table.columns is not None:
        judge.check(path, table.columns, table.delimiter)
    found: list[Example] = []
    skipped: list[SkippedRow] = []
    keys: set[str] = set()
    places: dict[int, RowPlace] = {}
    for record in table.records:
        own = own_id(record.values, judge.columns) if isinstance(record, TableRecord) else None
        places[record.row] = RowPlace(path.name, sheet_row(record), spell(own) or "")
        if isinstance(record, TableRecord) and table.columns is None:
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
    return found, skipped, places


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
        what = "no rows below the header" if path.suffix.lower() in (".csv", ".tsv", ".tab", *WORKBOOKS) else "no rows"
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
    spans: Spans = "none",
    **how: Unpack[FileFormat],
) -> None:
    """See that a labelled table has its columns, before anything depends on it; no row is read. JSONL has no header.

    Raises:
        DataError: the file cannot be read or lacks a column.
    """
    with open_table(path, plain=True, **how) as table:
        table = join_columns(table, columns)
        if table.columns is not None:
            Judge(columns, (), None, spans).check(path, table.columns, table.delimiter)
