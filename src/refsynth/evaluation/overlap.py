"""The part of a report on rows of the test file that are training rows too: which, and the figure with and without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from refsynth.core.types import Metric

SHOWN = 3
"""Rows that a sentence names."""

MANY = 0.1
"""The share of rows nearly as in train from which on the reader is asked to look at them: a few are like that by chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRow:
    """Row `row` of the test file and the id of the training row that it is most like; `alike` is how much, in [0, 1]."""

    row: int
    train: str
    alike: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Which of the `n` rows measured of the test file `file` are in train too.

    `same` have the text of a training row, apart from case and white space; `near` are near-duplicates of one. `whole` is the
    shipped model's figure on all rows, `new` that without `same`, `apart` that without `near` too; None where no row is left.
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
        """The figure with and without such rows, and which they are, as one line without full stop."""
        return "; ".join([f"{self.whole.name} {self.whole.percent()}", *self._parts()])

    def _parts(self) -> Iterator[str]:
        if self.same:
            left = f"without them {self.new.percent()}" if self.new else "nothing was measured on new rows"
            yield f"{self.counted(self.same)} also in train ({_named(self.same)}): {left}"
        if self.near:
            more = f"{len(self.near):,} more {be(self.near)}" if self.same else self.counted(self.near)
            without = "without these too" if self.same else "without them"
            left = f"{without} {self.apart.percent()}" if self.apart else "nothing was measured on rows unlike those of train"
            yield f"{more} nearly the same as rows of train ({_named(self.near)}): {left}"

    def counted(self, rows: Sequence[SharedRow]) -> str:
        """Return e.g. `3 of 400 rows are`."""
        if len(rows) == self.n:
            return "the only row is" if self.n == 1 else f"all {self.n:,} rows are"
        return f"{len(rows):,} of {self.n:,} rows {be(rows)}"

    @property
    def many_near(self) -> bool:
        """Whether so many rows are nearly as in train that the figure may be about them."""
        return len(self.near) >= MANY * self.n


def be(rows: Sequence[SharedRow]) -> str:
    """Return `is` or `are`, as many as there are."""
    return "is" if len(rows) == 1 else "are"


def _named(rows: Sequence[SharedRow]) -> str:
    """Return e.g. `rows 4, 17; in train rows 12, more-3`: ids without what most of them begin with."""
    return f"{_list([str(row.row) for row in rows])}; in train {_list([row.train.removeprefix('row-') for row in rows])}"


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{'row' if len(names) == 1 else 'rows'} {', '.join(names[:SHOWN])}{more}"
