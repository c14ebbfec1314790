"""What the commands share: two consoles, JSON output, and the progress of long work."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from typer import Option

from refsynth.core.duration import Pace

Json = Annotated[bool, Option("--json", help="Print one JSON object on stdout.")]


class _Results(Console):
    """A console whose reader may close the pipe, as `head` does. The command then goes on to its own end."""

    def on_broken_pipe(self) -> None:
        """Print no more. Rich's own console would end the process here."""
        self.quiet = True
        discard_output(sys.stderr if self.stderr else sys.stdout)


class _Messages(_Results):
    """A console that ignores failed writes: no work is lost because a message cannot be read."""

    def print(self, *values: Any, **options: Any) -> None:
        with suppress(OSError):
            super().print(*values, **options)


def discard_output(stream: TextIO) -> None:
    """Redirect a stream that cannot be written to /dev/null; otherwise the interpreter tries again at exit, and complains."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


out = _Results(highlight=False, soft_wrap=True)
"""For results, which a pipe should get."""

err = _Messages(stderr=True, highlight=False, soft_wrap=True)
"""For progress, warnings and errors."""


def print_anything() -> None:
    """Make stdout and stderr print every text as UTF-8, whatever the terminal's encoding; JSON is UTF-8 too.

    A lone surrogate, which JSON may hold, is printed as JSON escapes it. A standard stream that was closed before the start is
    replaced: stdin is empty, messages on stderr are discarded, and writing results to stdout fails as it would for any file.
    """
    for number, (name, mode, flags) in enumerate(
        (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY))
    ):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, flags), number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 - open until exit
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def print_json(value: Any) -> None:
    """Print one JSON value on stdout, independent of the terminal's width and of markup."""
    try:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    except BrokenPipeError:  # the reader needs no more; click would exit with 1
        discard_output(sys.stdout)


def command(*arguments: str | Path) -> str:
    """Return a refsynth command, quoted for a shell."""
    return shlex.join(["refsynth", *map(str, arguments)])


EVERY = 10_000  # rows between two lines of progress, without a terminal


@contextmanager
def counter(what: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows a growing count: live on a terminal, otherwise as a line for every `EVERY` more."""
    if err.is_terminal:
        columns = (TextColumn("   {task.completed:,.0f} {task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task(what, total=None)
            yield lambda done: progress.update(task, completed=done)
        return
    shown = 0

    def show(done: int) -> None:
        nonlocal shown
        if done >= shown + EVERY:
            shown = done
            err.print(f"   {done:,} {what}")

    yield show


@contextmanager
def ticker(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that shows progress towards `total`: a bar on a terminal, otherwise a line for every tenth.

    Both show the time left.
    """
    if err.is_terminal:
        counts = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("   {task.description}"), *counts, console=err, transient=True) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.update(task, completed=done)
        return
    tenths, pace = 0, Pace(total)

    def show(done: int) -> None:
        nonlocal tenths
        if total and done * 10 // total > tenths:
            tenths = done * 10 // total
            left = pace.left(done)
            err.print(f"   {title}: {done:,} of {total:,}{left and ', '}{left}")

    yield show
