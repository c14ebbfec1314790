"""Files that commands write where `--out` says."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from refsynth.core.errors import InputError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says against writing a file in the block into an error for a person.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="name another with --out") from error


def check_writable(path: Path) -> None:
    """See that a file can be written there, before the work that it is for.

    Raises:
        InputError: it cannot.
    """
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=path.parent).close()


def shortest(path: Path) -> Path:
    """Return the shortest name of a file, for a person: from here where it lies below, else the whole, without `..`."""
    whole = path.resolve()
    return whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else whole
