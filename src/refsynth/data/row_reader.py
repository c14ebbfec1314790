"""Decides what a row of a labeled file is: an example, a row to leave out, or an error with its remedy.

A `RowReader` is created with the task's columns, labels and label format, and reads rows of all task kinds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from refsynth.core.errors import DataError, nearest
from refsynth.core.labelset import join_labels, split_labels
from refsynth.core.marks import MarkError
from refsynth.core.pair import join_pair
from refsynth.core.sections import Columns
from refsynth.core.spans import split_spans
from refsynth.core.types import Example
from refsynth.data.account import Reason, SkippedRow
from refsynth.data.columns import check_columns
from refsynth.data.labels import Known, as_label, as_labels, listed, one_label
from refsynth.data.table import Fault, TableRecord, kind_of
from refsynth.data.tagged import TOKENS, read_tagged, text_key
from refsynth.data.text import clean

SHOWN = 12
"""Most labels or keys in a message."""

Spans = Literal["none", "marked", "ignored"]
"""Whether words have labels, and whether these labels are read. The text may then be a list of tokens."""

_MARKS_REMEDY = (
    "fix the row (plain brackets are written \\[ and \\]), or run with --skip-bad-rows (rows are listed in skipped.csv)"
)


class Bad(NamedTuple):
    """Why a row is an error, and the remedy; `detail` is also listed with the skipped rows."""

    reason: Reason
    detail: str
    known: str = ""
    remedy: str = ""


@dataclass
class RowReader:
    """Reads the rows of a labeled file.

    Attributes:
        separator: the string between labels in a cell; None if each row has one label.
        spans: whether words have labels.
        widened: number of rows whose marks were widened to whole words.
        weighed: number of rows with a weight.
    """

    columns: Columns
    labels: Collection[str]
    separator: str | None
    spans: Spans
    merge: bool = False
    widened: int = 0
    weighed: int = 0

    def __post_init__(self) -> None:
        self._known = Known(self.labels, merge=self.merge)

    def names(self, label: str) -> Sequence[str]:
        """Return the classes of a row's label."""
        if self.spans != "none":
            return [span.label for span in split_spans(label)]
        return (label,) if self.separator is None else split_labels(label)

    def check(self, path: Path, found: Sequence[str], delimiter: str) -> None:
        """Raise `DataError` if the table lacks a column."""
        if self.spans == "none":
            check_columns(path, found, self.columns, delimiter=delimiter)
        elif TOKENS not in found:
            check_columns(path, found, self.columns, labeled=False, delimiter=delimiter)

    def notes(self) -> list[str]:
        """Return notes about widened marks and about weights that no row has."""
        rows = "rows have" if self.widened > 1 else "row has"
        widened = [f"{self.widened} {rows} marks that end inside a word: it counts whole"] if self.widened else []
        if self.columns.weight is None or self.weighed:
            return widened
        return [*widened, f"no row has '{self.columns.weight}' (data.columns.weight): all count the same"]

    def __call__(self, record: TableRecord | Fault) -> Example | SkippedRow | Bad:
        """Return a row as an example, as one to leave out, or as an error."""
        if isinstance(record, Fault):
            return Bad("malformed", record.message)
        if (reason := left_out(record, self.columns)) is not None:
            return SkippedRow(record.row, reason, "")
        result = self._read(record)
        if self.columns.weight is None or not isinstance(result, Example):
            return result
        self.weighed += self.columns.weight in record.values
        cell = record.values.get(self.columns.weight)
        weight = _weight_of(cell)
        if weight is None:
            return Bad("malformed", f"'{self.columns.weight}' is {str(cell)[:40]!r}, expected a number, 0 or more")
        return replace(result, weight=weight) if weight else SkippedRow(record.row, "no weight", "")

    def _read(self, record: TableRecord) -> Example | SkippedRow | Bad:
        if trouble := self._no_text(record):
            return trouble
        if self.spans != "none":
            return self._tagged(record)
        text, label = text_of(record, self.columns), label_of(record, self.columns, self.separator)
        if label is None:
            return Bad("malformed", no_label(record.values.get(self.columns.label), self.columns.label, self.separator))
        if not text:
            return self._empty(record)
        if not label:
            return SkippedRow(record.row, "no label", "")
        known: list[str] = []
        for name in self.names(label):
            if (match := self._known.find(name)) is None:
                return _unknown(name, self.labels, self.separator)
            known.append(match)
        return Example(f"row-{record.row}", text, known[0] if self.separator is None else join_labels(known, list(self.labels)))

    def _empty(self, record: TableRecord) -> SkippedRow:
        """Return a row without a text, or with only half of a pair, as one to leave out."""
        missing = [name for name in self.columns.texts if not clean(record.values.get(name) or "")]
        if len(missing) == len(self.columns.texts):
            return SkippedRow(record.row, "empty text", "")
        return SkippedRow(record.row, "half a pair", f"no text in '{missing[0]}'")

    def _no_text(self, record: TableRecord) -> Bad | None:
        for name in self.columns.texts:
            value = record.values.get(name)
            if value is not None and not isinstance(value, str) and not (self.spans != "none" and isinstance(value, list)):
                return Bad("malformed", no_string(name, value))
            if isinstance(value, str) and "\0" in value:  # damage or a wrong encoding: people do not write NUL
                remedy = "name the encoding (data.encoding) or fix the row"
                return Bad("malformed", f"'{name}' holds NUL bytes", remedy=remedy)
        return None

    def _tagged(self, record: TableRecord) -> Example | SkippedRow | Bad:
        if not record.values.get(text_key(record.values, self.columns)):
            return SkippedRow(record.row, "empty text", "")
        try:
            row = read_tagged(record.values, self.columns)
        except MarkError as error:
            return Bad("malformed", str(error), remedy=_MARKS_REMEDY)
        if not row.text:
            return SkippedRow(record.row, "empty text", "")
        if row.label is None:
            return SkippedRow(record.row, "no label", "")
        if unknown := next((name for name in self.names(row.label) if name not in self.labels), None):
            return _unknown(unknown, self.labels)
        self.widened += bool(row.widened)
        return Example(f"row-{record.row}", row.text, row.label)


def left_out(record: TableRecord, columns: Columns) -> Reason | None:
    """Return why annotators left a row out; None if they did not, or if the task reads the column `answer` itself."""
    return None if "answer" in (*columns.texts, columns.label) else record.left


def text_of(record: TableRecord, columns: Columns) -> str:
    """Return the cleaned text, or the pair as one text; empty if a text is missing."""
    halves = [clean(record.values.get(name) or "") for name in columns.texts]
    return "" if not all(halves) else halves[0] if len(halves) == 1 else join_pair(*halves)


def _weight_of(value: object) -> float | None:
    """Return a cell as a weight: 1 if it is empty, None if it is not a weight."""
    if value is None or value == "":
        return 1.0
    try:
        weight = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return None
    return weight if 0 <= weight < math.inf else None


def no_string(name: str, value: object) -> str:
    """Return what is wrong with a value that should be a text."""
    if isinstance(value, bytes):
        return f"'{name}' holds bytes that are not UTF-8, expected a text"
    return f"'{name}' is a JSON {kind_of(value)}, expected a string"


def label_of(record: TableRecord, columns: Columns, separator: str | None) -> str | None:
    """Return the label or the set of labels: empty if the cell is, None if it cannot be one."""
    value = record.values.get(columns.label)
    return one_label(value) if separator is None else as_labels(value, separator)


def no_label(value: Any, column: str, separator: str | None) -> str:
    """Return what is wrong with a value that is not a label or a set of labels."""
    names = listed(value)
    if names and separator is None and len(names) > 1:
        shown = ", ".join(str(name)[:30] for name in names[:3])
        return (
            f"'{column}' holds {len(names)} labels ({shown}), expected one; if a text may have several labels: task: multilabel"
        )
    if names is not None:
        wrong = next(name for name in names if not as_label(name))
        kind = f"a JSON {kind_of(wrong)}" if as_label(wrong) is None else "an empty name"
        return f"the list in '{column}' holds {kind}, expected names of labels"
    expected = "a string or a number" if separator is None else "a string, a number or a list"
    items = list(value.items())[:SHOWN] if isinstance(value, dict) else []
    shown = f"; it holds {', '.join(f'{name}: {str(item)[:20]}' for name, item in items)}" if items else ""
    return f"'{column}' is a JSON {kind_of(value)}, expected {expected}{shown}"


def _unknown(label: str, labels: Collection[str], separator: str | None = None) -> Bad:
    known = list(labels)
    shown = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
    between = "" if separator is None else f", in a cell with {separator!r} between them"
    name = label if len(label) <= 80 else label[:77] + "..."
    remedy = f"{nearest(label, known)} Fix the row, add the label, or run with --skip-bad-rows (rows are listed in skipped.csv)"
    return Bad(
        "unknown label", f"label '{name}' is not in task.yaml", f"labels there: {shown} ({len(known)}){between}", remedy.strip()
    )


def row_error(path: Path, record: TableRecord | Fault, bad: Bad) -> DataError:
    """Return the error on a row, with its place."""
    where = f" (line {record.line} of the file)" if record.line not in (None, record.row) else ""
    remedy = bad.remedy or "fix the row, or run with --skip-bad-rows (rows are listed in skipped.csv)"
    return DataError(f"{path} row {record.row}: {bad.detail}{where}", known=bad.known, remedy=remedy)
