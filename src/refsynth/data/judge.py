"""What a row of a labelled file is: an example, a row to leave out, or an error with its remedy.

Rows of all kinds of task; which columns hold what, and how labels stand in them, is said when a `Judge` is made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from refsynth.core.errors import DataError, nearest
from refsynth.core.labelset import join_labels, split_labels
from refsynth.core.marks import MarkError
from refsynth.core.pair import join_pair
from refsynth.core.sections import Columns
from refsynth.core.spans import split_spans
from refsynth.core.types import Example
from refsynth.data.account import Reason, SkippedRow
from refsynth.data.columns import check_columns, text_columns
from refsynth.data.labels import as_label, as_labels
from refsynth.data.records import Fault, Record, kind_of
from refsynth.data.tagged import TOKENS, read_tagged, text_key
from refsynth.data.text import clean

SHOWN = 12
"""Labels or keys in a message."""

Spans = Literal["none", "marked", "ignored"]
"""Whether rows have spans of words for labels, and whether these are read. Such a text may be a list of tokens."""


MARKS_REMEDY = (
    "fix the row (plain brackets are written \\[ and \\]), or run with --skip-bad-rows (rows are listed in skipped.csv)"
)


class Bad(NamedTuple):
    """Why a row is an error, and what to do; `detail` is the short form for the list of skipped rows."""

    reason: Reason
    detail: str
    known: str = ""
    remedy: str = ""


@dataclass
class Judge:
    """Tells what a row of a labelled file is; counts the rows with marks that were widened to whole words."""

    columns: Columns
    labels: Collection[str]
    separator: str | None
    spans: Spans
    widened: int = 0

    def names(self, label: str) -> Sequence[str]:
        """Return the labels that a label stands for."""
        if self.spans != "none":
            return [span.label for span in split_spans(label)]
        return (label,) if self.separator is None else split_labels(label)

    def check(self, path: Path, found: Sequence[str], delimiter: str) -> None:
        """Refuse a table that lacks a column."""
        if self.spans == "none":
            check_columns(path, found, self.columns, delimiter=delimiter)
        elif TOKENS not in found:
            check_columns(path, found, self.columns, labelled=False, delimiter=delimiter)

    def notes(self) -> list[str]:
        """Return a sentence about widened marks, if there are any."""
        if not self.widened:
            return []
        return [f"{self.widened} {'rows have' if self.widened > 1 else 'row has'} marks that end inside a word: it counts whole"]

    def __call__(self, record: Record | Fault) -> Example | SkippedRow | Bad:
        """Return a row as an example, as one to leave out, or as an error."""
        if isinstance(record, Fault):
            return Bad("malformed", record.message)
        if record.left is not None:
            return SkippedRow(record.row, record.left, "")
        if trouble := self._no_text(record):
            return trouble
        if self.spans != "none":
            return self._tagged(record)
        text, label = text_of(record, self.columns), label_of(record, self.columns, self.separator)
        if label is None:
            return Bad("malformed", _no_label(record, self.columns, self.separator))
        if not text:
            return self._empty(record)
        if not label:
            return SkippedRow(record.row, "no label", "")
        if unknown := next((name for name in self.names(label) if name not in self.labels), None):
            return _unknown(unknown, self.labels, self.separator)
        return Example(
            f"row-{record.row}", text, label if self.separator is None else join_labels(self.names(label), list(self.labels))
        )

    def _empty(self, record: Record) -> SkippedRow:
        """Return a row without a text, or with one of two, as one to leave out."""
        missing = [name for name in text_columns(self.columns) if not clean(record.values.get(name) or "")]
        if len(missing) == len(text_columns(self.columns)):
            return SkippedRow(record.row, "empty text", "")
        return SkippedRow(record.row, "half a pair", f"no text in '{missing[0]}'")

    def _no_text(self, record: Record) -> Bad | None:
        for name in text_columns(self.columns):
            value = record.values.get(name)
            if value is not None and not isinstance(value, str) and not (self.spans != "none" and isinstance(value, list)):
                return Bad("malformed", no_string(name, value))
            if (
                isinstance(value, str) and "\0" in value
            ):  # a sign of damage or of another encoding, not something that a person wrote
                remedy = "name the encoding (data.encoding) or fix the row"
                return Bad("malformed", f"'{name}' holds NUL bytes", remedy=remedy)
        return None

    def _tagged(self, record: Record) -> Example | SkippedRow | Bad:
        if not record.values.get(text_key(record.values, self.columns)):
            return SkippedRow(record.row, "empty text", "")
        try:
            row = read_tagged(record.values, self.columns)
        except MarkError as error:
            return Bad("malformed", str(error), remedy=MARKS_REMEDY)
        if not row.text:
            return SkippedRow(record.row, "empty text", "")
        if row.label is None:
            return SkippedRow(record.row, "no label", "")
        if unknown := next((name for name in self.names(row.label) if name not in self.labels), None):
            return _unknown(unknown, self.labels)
        self.widened += bool(row.widened)
        return Example(f"row-{record.row}", row.text, row.label)


def text_of(record: Record, columns: Columns) -> str:
    """Return the text, cleaned, or the pair as one; empty where one is missing."""
    halves = [clean(record.values.get(name) or "") for name in text_columns(columns)]
    return "" if not all(halves) else halves[0] if len(halves) == 1 else join_pair(*halves)


def no_string(name: str, value: object) -> str:
    """Return what is wrong with a value that should be a text."""
    return f"'{name}' is a JSON {kind_of(value)}, expected a string"


def label_of(record: Record, columns: Columns, separator: str | None) -> str | None:
    """Return the label or the set of labels: empty where nothing stands, None where it cannot be one."""
    value = record.values.get(columns.label)
    return as_label(value) if separator is None else as_labels(value, separator)


def _no_label(record: Record, columns: Columns, separator: str | None) -> str:
    """Return what is wrong with a value that can be no label, or no set of labels."""
    value, several = record.values.get(columns.label), separator is not None
    if several and isinstance(value, (list, tuple)):
        wrong = next(each for each in value if not as_label(each))
        found = f"a JSON {kind_of(wrong)}" if as_label(wrong) is None else "an empty name"
        return f"the list in '{columns.label}' holds {found}, expected names of labels"
    return (
        f"'{columns.label}' is a JSON {kind_of(value)}, expected a string{', a number or a list' if several else ' or a number'}"
    )


def _unknown(label: str, labels: Collection[str], separator: str | None = None) -> Bad:
    known = list(labels)
    shown = ", ".join(known[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
    between = "" if separator is None else f", in a cell with {separator!r} between them"
    name = label if len(label) <= 80 else label[:77] + "..."
    remedy = f"{nearest(label, known)} Fix the row, add the label, or run with --skip-bad-rows (rows are listed in skipped.csv)"
    return Bad(
        "unknown label", f"label '{name}' is not in task.yaml", f"labels there: {shown} ({len(known)}){between}", remedy.strip()
    )


def row_error(path: Path, record: Record | Fault, bad: Bad) -> DataError:
    """Return the error of a row with its place."""
    where = f" (line {record.line} of the file)" if record.line not in (None, record.row) else ""
    remedy = bad.remedy or "fix the row, or run with --skip-bad-rows (rows are listed in skipped.csv)"
    return DataError(f"{path} row {record.row}: {bad.detail}{where}", known=bad.known, remedy=remedy)
