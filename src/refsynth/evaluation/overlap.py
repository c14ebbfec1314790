"""The report's section on test rows that are also training rows: which they are, and the figures with and without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refsynth.core.types import Metric

SHOWN = 3
"""Rows named in a sentence."""

MANY = 0.1
"""Least share of near-duplicates at which the reader is asked to look at them: a few occur by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRow:
    """Row `row` of the test file, the id of the most similar training row, and their similarity `alike`, in [0, 1]."""

    row: int
    train: str
    alike: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """The test rows that are also training rows.

    Attributes:
        file: the test file.
        n: number of measured rows.
        same: rows with the text of a training row, except for case and white space.
        near: rows that are near-duplicates of a training row.
        whole: the shipped model's figure on all rows.
        new: the figure without `same`; None if no row is left.
        apart: the figure without `same` and `near`; None if no row is left.
    """

    file: str
    n: int
    same: tuple[SharedRow, ...]
    near: tuple[SharedRow, ...]
    whole: Metric
    new: Metric | None
    apart: Metric | None

    @property
    def line(self) -> str:
        """The figures with and without such rows, and their numbers, as one line without full stop."""
        return "; ".join([f"{self.whole.name} {self.whole.percent()}", *self._parts()])

    def _parts(self) -> Iterator[str]:
        if self.same:
            figure = f"without them {self.new.percent()}" if self.new else "nothing was measured on new rows"
            yield f"{self.counted(self.same)} also in train ({_named(self.same)}): {figure}"
        if self.near:
            more = f"{len(self.near):,} more {be(self.near)}" if self.same else self.counted(self.near)
            without = "without these too" if self.same else "without them"
            figure = f"{without} {self.apart.percent()}" if self.apart else "nothing was measured on rows unlike those of train"
            yield f"{more} nearly the same as rows of train ({_named(self.near)}): {figure}"

    def counted(self, rows: Sequence[SharedRow]) -> str:
        """Return a phrase such as `3 of 400 rows are`."""
        if len(rows) == self.n:
            return "the only row is" if self.n == 1 else f"all {self.n:,} rows are"
        return f"{len(rows):,} of {self.n:,} rows {be(rows)}"

    @property
    def many_near(self) -> bool:
        """Whether there are so many near-duplicates that they may decide the figure."""
        return len(self.near) >= MANY * self.n


def be(rows: Sequence[SharedRow]) -> str:
    """Return `is` for one row, else `are`."""
    return "is" if len(rows) == 1 else "are"


def _named(rows: Sequence[SharedRow]) -> str:
    """Return a list such as `rows 4, 17; in train rows 12, more-3`; ids are shown without their prefix `row-`."""
    return f"{_list([str(row.row) for row in rows])}; in train {_list([row.train.removeprefix('row-') for row in rows])}"


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{'row' if len(names) == 1 else 'rows'} {', '.join(names[:SHOWN])}{more}"
