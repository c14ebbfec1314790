"""Files of a run: written whole or not at all, and read with an error that names the file. JSON, and JSON lines."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from refsynth.core.errors import DamagedError
from refsynth.core.lock import not_waiting

Json = Any

HALVES = "backslashreplace"
"""A lone surrogate in JSON is written as JSON escapes it, and read back unchanged."""


def write_atomic(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file so that, at any moment, either the old or the new content is complete and on disk.

    `mode` is reduced by the process's umask.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # a leftover of a killed process with the same number would keep its mode
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Json, *, sort: bool = True) -> None:
    """Write a value as indented JSON, atomically; its keys are sorted unless their order matters."""
    write_atomic(path, indented(value, sort=sort))


def indented(value: Json, *, sort: bool = True) -> bytes:
    """Return a value as indented JSON; its keys are sorted unless their order matters."""
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=sort).encode("utf-8", HALVES) + b"\n"


def read_json(path: Path) -> Json:
    """Read a JSON file that refsynth wrote.

    Raises:
        DamagedError: it is not JSON, or not a file.
        OSError: it cannot be read.
    """
    with opened(path) as stream:
        return _parsed(path, stream.read())


def write_jsonl(path: Path, records: Iterable[Json]) -> None:
    """Write one JSON value per line, atomically."""
    write_atomic(path, b"".join(json.dumps(record, ensure_ascii=False).encode("utf-8", HALVES) + b"\n" for record in records))


def read_jsonl(path: Path) -> Iterator[Json]:
    """Yield the values of a JSON-lines file that refsynth wrote.

    Raises:
        DamagedError: a line is not JSON, or it is not a file.
        OSError: it cannot be read.
    """
    with opened(path) as stream:
        for line in stream:
            yield _parsed(path, line)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that refsynth wrote. A pipe in its place does not block, and a device is not read.

    Raises:
        DamagedError: it is not a file.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=not_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise damaged(path, "not a file")
        yield stream


def damaged(path: Path, why: str) -> DamagedError:
    """Return the error for a file of a run that was changed."""
    return DamagedError(
        f"{path}: is not as refsynth wrote it ({why})", remedy="remove it, and run the command that made it again"
    )


def _parsed(path: Path, data: bytes) -> Json:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)[:80]) from error


def size_of(folder: Path) -> float:
    """Return the size of all files below a folder, in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
