"""Counts what stands in the column of the label, and tells from it whether a row has one label or any number."""

from __future__ import annotations

from collections import Counter
from typing import Any

from refsynth.core.labelset import NONE
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.sections import Columns, parts_of
from refsynth.data.joined import yes_of
from refsynth.data.judge import left_out, no_label
from refsynth.data.labels import as_label, listed
from refsynth.data.table import TableRecord


class LabelTally:
    """Counts the labels of a column, and what tells whether a row has one of them or any number."""

    def __init__(self, columns: Columns, separator: str | None, *, limit: int | None) -> None:
        self._columns, self._given, self._limit = columns, separator, limit
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
        elif self._given is not None and isinstance(value, str):
            items = [] if value.strip() == NONE else value.split(self._given)
        names = [as_label(item) for item in ([value] if items is None else items)]
        if None in names and self.wrong is None:
            self.wrong, self.strange = f"row {record.row}: {no_label(value, name, self.separator())}", value
        self._counts.update(name for name in dict.fromkeys(names) if name)

    def separator(self) -> str | None:
        """Return what stands between labels in a cell; None where each row has one."""
        return self._given or (SEPARATOR if set(self._sizes) - {1} else None)

    def labels(self) -> dict[str, int]:
        """Return how often each label occurs, in the order in which they first do."""
        parted = Counter(dict.fromkeys(parts_of(self._columns.label), 0) if self._flags else ())
        if self._given is not None or self.separator() is None or self._flags:
            return dict(parted + self._counts if not self._flags else {**parted, **self._counts})
        for name, count in self._counts.items():
            parted.update({part.strip(): count for part in name.split(SEPARATOR) if part.strip()})
        return dict(parted)

    def why(self) -> str:
        """Return what the kind of task was taken from."""
        column = self._columns.label
        if self._given is not None:
            return f"{self._given!r} stands between labels"
        if self._flags:
            each = "one in each row" if self.separator() is None else "not always one in a row"
            return f"columns of yes and no are labels, {each}"
        if self._sizes:
            return f"lists in '{column}', " + ("each with one label" if self.separator() is None else "not all with one label")
        return f"one value in '{column}' a row"
