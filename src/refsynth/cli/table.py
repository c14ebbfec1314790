"""Tables: of any rows, and of the results that end a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from refsynth.cli.screen import out
from refsynth.core.types import Metric

if TYPE_CHECKING:
    from refsynth.evaluation.report import Report


def show_rows(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print rows under their heads; all but the first column are numbers."""
    table = Table(box=None, pad_edge=False)
    for number, head in enumerate(heads):
        table.add_column(head, justify="left" if number == 0 else "right")
    for line in lines:
        table.add_row(*map(escape, line))
    out.print(table)


def show_systems(console: Console, report: Report) -> None:
    """Print the systems side by side, with their intervals, speed and size."""
    from refsynth.evaluation.advice import verdict

    if report.results is not None:
        source = f"{report.results.n:,} rows of {report.results.file}" if report.results.file else "cross-validation"
        table = Table(title=f"{source}; 95% intervals; speed on this machine", title_justify="left", box=None, pad_edge=False)
        figures = report.results.figures
        for name in ("system", *figures.values(), "texts/s", "MB"):
            table.add_column(name, justify="left" if name == "system" else "right", no_wrap=True)
        for system in report.results.systems:
            speed = "" if system.texts_per_second is None else f"{system.texts_per_second:,.0f}"
            size = "" if system.size_mb is None else f"{system.size_mb:.1f}"
            table.add_row(system.name, *(_percent(getattr(system, field)) for field in figures), speed, size)
        console.print(table)
    console.print(verdict(report), markup=False)


def _percent(metric: Metric | None) -> str:
    return "" if metric is None else metric.percent()
