"""Files that commands write where `--out` names them."""

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
    """Turn an OSError in the block, which writes a file, into an InputError.

    Raises:
        InputError: the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="name another with --out") from error


def check_writable(path: Path) -> None:
    """Check that a file can be written at `path`, before the work that fills it begins.

    Raises:
        InputError: it cannot be written.
    """
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=path.parent).close()


def short_path(path: Path) -> Path:
    """Return a path for messages: relative if the file is below the current folder, otherwise absolute and without `..`."""
    absolute = path.resolve()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
