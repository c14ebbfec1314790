"""What the commands share: two consoles, and one line per finished stage."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from refsynth.core.duration import Pace


class _Results(Console):
    """A console whose reader may go away, as `head` does: it has what it wants, and the command goes on to its own end."""

    def on_broken_pipe(self) -> None:
        """Print no more; the console of rich would end the process here."""
        self.quiet = True
        to_nowhere(sys.stderr if self.stderr else sys.stdout)


class _Messages(_Results):
    """A console on which nothing fails where nobody can read it: no work is lost for a message."""

    def print(self, *values: Any, **options: Any) -> None:
        with suppress(OSError):
            super().print(*values, **options)


def to_nowhere(stream: TextIO) -> None:
    """Let a stream that cannot be written take what it still holds: else the interpreter tries again, and complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


out = _Results(highlight=False, soft_wrap=True)
"""Results: what a pipe should get."""

err = _Messages(stderr=True, highlight=False, soft_wrap=True)
"""Progress, warnings, errors."""


def print_anything() -> None:
    """Let every text be printed, whatever the terminal's encoding: what we print is UTF-8, as JSON is.

    Half a character (a lone surrogate, as JSON may have them) comes out as JSON escapes it. A stream that whoever started us has
    closed is put back: there is nothing to read, messages go nowhere, and to write results fails as to any file.
    """
    for number, (name, mode, flags) in enumerate(
        (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
    ):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, flags), number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def print_json(value: Any) -> None:
    """Print one JSON value on stdout, untouched by the terminal's width or markup."""
    try:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    except BrokenPipeError:  # the reader has what it wants; else the library of commands would end with 1
        to_nowhere(sys.stdout)


def command(*arguments: str | Path) -> str:
    """Return a command of refsynth as a shell takes it, whatever stands in a path."""
    return shlex.join(["refsynth", *map(str, arguments)])


EVERY = 10_000
"""Rows between two lines of progress, where there is no terminal."""


@contextmanager
def counter(what: str) -> Iterator[Callable[[int], None]]:
    """Show how many there are while the block runs: on a terminal as it goes, else in a line now and then."""
    if err.is_terminal:
        columns = (TextColumn("   {task.completed:,.0f} {task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done: progress.update(task, completed=done)
        return
    shown = 0

    def tell(done: int) -> None:
        nonlocal shown
        if done >= shown + EVERY:
            shown = done
            err.print(f"   {done:,} {what}")

    yield tell


class Ticker:
    """Progress of long work: a bar with rate and time left on a terminal, otherwise a plain line every tenth, with the same."""

    def __init__(self, title: str, total: int, progress: Progress | None) -> None:
        self._title, self._total, self._progress = title, total, progress
        self._task = progress.add_task(title, total=total) if progress else None
        self._shown, self._pace = 0, Pace(total)

    def update(self, done: int) -> None:
        """Tell that `done` units of the total are finished."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)
        elif self._total and done * 10 // self._total > self._shown:
            self._shown = done * 10 // self._total
            left = self._pace.left(done)
            err.print(f"   {self._title}: {done:,} of {self._total:,}{left and ', '}{left}")


@contextmanager
def ticker(title: str, total: int) -> Iterator[Ticker]:
    """Show progress towards `total` while the block runs."""
    if not err.is_terminal:
        yield Ticker(title, total, None)
        return
    columns = (TextColumn("   {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        yield Ticker(title, total, progress)
