"""How the pipeline tells what it does: to an observer that prints, one that logs, or a silent one. It never prints by itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Observer(Protocol):
    """Who watches a run."""

    def stage(self, name: str, line: str) -> None:
        """A stage is finished; `line` is its result in one line."""
        ...

    def note(self, line: str) -> None:
        """Something that the user should know."""
        ...

    def progress(self, title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Long work towards `total` begins; the value is called with how much is done."""
        ...


class Silent:
    """Watches and says nothing."""

    def stage(self, name: str, line: str) -> None:
        """Ignore it."""

    def note(self, line: str) -> None:
        """Ignore it."""

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[Callable[[int], None]]:
        """Ignore it."""
        del title, total
        yield lambda done: None


class Logged(Silent):
    """Tells the logger `refsynth` what each stage came to; no line holds a text of the user."""

    _log = logging.getLogger("refsynth")

    def stage(self, name: str, line: str) -> None:
        """Log the stage's result."""
        self._log.info("%s: %s", name, line)

    def note(self, line: str) -> None:
        """Log a remark."""
        self._log.warning("%s", line)
