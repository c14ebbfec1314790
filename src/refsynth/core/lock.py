"""Files that processes lock, or that one appends to, opened so that a symbolic link in their place is not followed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def no_link(path: str, flags: int) -> int:
    """Open a file that is not a symbolic link, and create it for this user alone; for `open(..., opener=no_link)`.

    Raises:
        OSError: there is a link in its place (ELOOP), or it cannot be opened.
    """
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def not_waiting(path: str, flags: int) -> int:
    """Open a file without waiting, even if a pipe stands in its place; for `open(..., opener=not_waiting)`."""
    return os.open(path, flags | os.O_NONBLOCK)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock that a file stands for. The system releases it when the process ends, however it ends.

    Raises:
        BlockingIOError: another process holds it, and `wait` is false.
        OSError: there is a link in its place (ELOOP), or it cannot be opened.
    """
    with open(path, "a", opener=no_link) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
