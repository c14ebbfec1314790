"""The observer that prints a run: a numbered line per stage, and the progress of long work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from refsynth.cli.screen import err, ticker
from refsynth.core.observe import Printed


class Printer(Printed):
    """Prints each stage on stderr as it ends, with the time it took."""

    def __init__(self) -> None:
        super().__init__(err)
        self._number = 0
        self._since = time.monotonic()

    def stage(self, name: str, line: str) -> None:
        """Print the stage's result."""
        self._number += 1
        seconds, self._since = time.monotonic() - self._since, time.monotonic()
        err.print(f"{self._number:2} {name:<11} {line}   {int(seconds) // 60}:{int(seconds) % 60:02}", markup=False)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show progress towards `total`."""
        with ticker(title, total) as show:
            yield show
