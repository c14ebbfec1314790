"""How the pipeline reports what it does: to an observer that prints, one that logs, or a silent one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Observer(Protocol):
    """Watches a run."""

    def stage(self, name: str, line: str) -> None:
        """A stage has ended; `line` is its result in one line."""

    def note(self, line: str) -> None:
        """Something that the user should know."""

    def forecast(self, line: str) -> None:
        """How long the next stage will take, estimated from what was measured."""

    def progress(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Long work towards `total` begins; the value is a function to call with how much is done."""


class Silent:
    """Ignores everything."""

    def stage(self, name: str, line: str) -> None:
        """Ignore it."""

    def note(self, line: str) -> None:
        """Ignore it."""

    def forecast(self, line: str) -> None:
        """Ignore it."""

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Ignore it."""
        del title, total
        yield lambda done: None


class Logged(Silent):
    """Logs the result of each stage with the logger `refsynth`. No line holds a text of the user."""

    _log = logging.getLogger("refsynth")

    def stage(self, name: str, line: str) -> None:
        """Log the stage's result."""
        self._log.info("%s: %s", name, line)

    def note(self, line: str) -> None:
        """Log a remark."""
        self._log.warning("%s", line)


class Printed(Logged):
    """Prints the same on stderr, with a bar for long work if stderr is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)

    def stage(self, name: str, line: str) -> None:
        """Print the stage's result."""
        self._console.print(f"{name:<11} {line}", markup=False)

    def note(self, line: str) -> None:
        """Print a remark."""
        self._console.print(f"   note: {line}", markup=False)

    def forecast(self, line: str) -> None:
        """Print how long the next stage will take."""
        self._console.print(f"   {line}", markup=False)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar; without a terminal, one line at the beginning."""
        if not self._console.is_terminal:
            self._console.print(f"{title}: 0 of {total:,}", markup=False)
            yield lambda done: None
            return
        columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda done: bar.update(task, completed=done)
