"""What the commands share: two consoles, and one line per finished stage."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

out = Console(highlight=False, soft_wrap=True)
"""Results: what a pipe should get."""

err = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress, warnings, errors."""


def print_json(value: Any) -> None:
    """Print one JSON value on stdout, untouched by the terminal's width or markup."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def command(*arguments: str | Path) -> str:
    """Return a command of refsynth as a shell takes it, whatever stands in a path."""
    return shlex.join(["refsynth", *map(str, arguments)])


class Ticker:
    """Progress of long work: a bar with rate and time left on a terminal, a plain line every tenth otherwise."""

    def __init__(self, title: str, total: int, progress: Progress | None) -> None:
        self._title, self._total, self._progress = title, total, progress
        self._task = progress.add_task(title, total=total) if progress else None
        self._shown = 0

    def update(self, done: int) -> None:
        """Tell that `done` units of the total are finished."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)
        elif self._total and done * 10 // self._total > self._shown:
            self._shown = done * 10 // self._total
            err.print(f"   {self._title}: {done:,} of {self._total:,}")


@contextmanager
def ticker(title: str, total: int) -> Iterator[Ticker]:
    """Show progress towards `total` while the block runs."""
    if not err.is_terminal:
        yield Ticker(title, total, None)
        return
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield Ticker(title, total, progress)
