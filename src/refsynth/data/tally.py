"""Counts the labels of a column, and infers from its cells whether a row has one label or any number."""

from __future__ import annotations

from collections import Counter
from typing import Any

from refsynth.core.labelset import NONE
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.sections import Columns, parts_of
from refsynth.data.joined import yes_of
from refsynth.data.labels import as_label, listed
from refsynth.data.row_reader import left_out, no_label
from refsynth.data.table import TableRecord


class LabelTally:
    """Counts the labels of a column.

    Args:
        columns: the columns of text and label.
        separator: the string between the labels in a cell, if the user named one.
        limit: stop counting beyond so many different labels; None to count all.

    Attributes:
        wrong: what is wrong with the first cell that is not a label; None if all are.
        strange: the value of that cell.
    """

    def __init__(self, columns: Columns, separator: str | None, *, limit: int | None) -> None:
        self._columns, self._separator, self._limit = columns, separator, limit
        self._counts = Counter[str]()
        self._sizes = Counter[int]()  # of lists
        self._flags = False
        self.wrong: str | None = None
        self.strange: Any = None

    def add(self, record: TableRecord) -> None:
        """Count the labels of a row."""
        if left_out(record, self._columns) or (self._limit is not None and len(self._counts) > self._limit):
            return
        values = record.values
        name, parts = self._columns.label, parts_of(self._columns.label)
        self._flags |= name not in values and len(parts) > 1
        value = yes_of(values, parts) if name not in values and len(parts) > 1 else values.get(name)
        items = listed(value)
        if items is not None:
            self._sizes[len(items)] += 1
        elif self._separator is not None and isinstance(value, str):
            items = [] if value.strip() == NONE else value.split(self._separator)
        names = [as_label(item) for item in ([value] if items is None else items)]
        if None in names and self.wrong is None:
            self.wrong, self.strange = f"row {record.row}: {no_label(value, name, self.separator())}", value
        self._counts.update(name for name in dict.fromkeys(names) if name)

    def separator(self) -> str | None:
        """Return the string between labels in a cell; None if each row has one label."""
        return self._separator or (SEPARATOR if set(self._sizes) - {1} else None)

    def labels(self) -> dict[str, int]:
        """Return the number of rows of each label, in the order of first appearance."""
        if self._flags:
            return {**dict.fromkeys(parts_of(self._columns.label), 0), **self._counts}
        if self._separator is not None or self.separator() is None:
            return dict(self._counts)
        counts = Counter[str]()
        for name, count in self._counts.items():
            counts.update({part.strip(): count for part in name.split(SEPARATOR) if part.strip()})
        return dict(counts)

    def why(self) -> str:
        """Return what the kind of task was inferred from."""
        column = self._columns.label
        if self._separator is not None:
            return f"{self._separator!r} stands between labels"
        if self._flags:
            number = "one in each row" if self.separator() is None else "not always one in a row"
            return f"columns of yes and no are labels, {number}"
        if self._sizes:
            return f"lists in '{column}', " + ("each with one label" if self.separator() is None else "not all with one label")
        return f"one value in '{column}' per row"
