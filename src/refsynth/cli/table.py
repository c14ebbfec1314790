"""Tables: of any rows, and of the results of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from refsynth.cli.screen import out
from refsynth.core.intervals import INTERVALS
from refsynth.core.types import Metric

if TYPE_CHECKING:
    from refsynth.evaluation.report import Report
    from refsynth.evaluation.sections import Results

GAP = 2  # characters between two columns


def show_rows(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print rows under their heads. All columns but the first are numbers."""
    table = Table(box=None, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number == 0 else "right", overflow="fold")
    for line in lines:
        table.add_row(*map(escape, line))
    out.print(table)


def show_systems(console: Console, report: Report) -> None:
    """Print the systems with their figures, intervals, speed and size, in as many tables as the console's width needs."""
    from refsynth.evaluation.headline import verdict

    if report.results is not None:
        source = f"{report.results.n:,} rows of {report.results.file}" if report.results.file else "cross-validation"
        console.print(f"{source}; 95% intervals; speed on this machine", style="italic", markup=False)
        console.print(INTERVALS, style="italic", markup=False)
        names = [system.name for system in report.results.systems]
        for columns in _beside(_columns(report.results), console.width - max(map(len, names), default=0)):
            table = Table(box=None, pad_edge=False)
            table.add_column("system", overflow="fold")
            for column in columns:
                table.add_column(column.head, justify="right", no_wrap=True)
            for name, *cells in zip(names, *(column.cells for column in columns), strict=True):
                table.add_row(*map(escape, (name, *cells)))
            console.print(table)
    console.print(verdict(report), markup=False)


class Column(NamedTuple):
    """A column of figures: its head, and a cell for each system."""

    head: str
    cells: Sequence[str]


def _columns(results: Results) -> Iterator[Column]:
    for field, name in results.figures.items():
        yield Column(name, [_percent(getattr(system, field)) for system in results.systems])
    rates = [system.texts_per_second for system in results.systems]
    yield Column("texts/s", ["" if rate is None else f"{rate:,.0f}" for rate in rates])
    yield Column("MB", ["" if system.size_mb is None else f"{system.size_mb:.1f}" for system in results.systems])


def _beside(columns: Iterable[Column], room: int) -> Iterator[list[Column]]:
    """Yield the columns in groups that fit side by side in `room` characters; a group has at least one."""
    group: list[Column] = []
    left = room
    for column in columns:
        width = GAP + max(map(len, (column.head, *column.cells)))
        if group and width > left:
            yield group
            group, left = [], room
        group.append(column)
        left -= width
    yield group


def _percent(metric: Metric | None) -> str:
    return "" if metric is None else metric.percent()
