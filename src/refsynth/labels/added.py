"""Appends rows that people label after the first run to a file, each exactly once.

The file is always replaced as a whole, and a text that it holds is not added again. So each row is there once or not at all, even
if the process dies or the same labels are added repeatedly.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from refsynth.core.errors import InputError
from refsynth.core.files import HALVES, write_atomic
from refsynth.core.sections import Columns
from refsynth.core.types import Example
from refsynth.data.columns import text_fields
from refsynth.data.text import normalize


class Conflict(NamedTuple):
    """A text with a known label that was given another one."""

    row: str
    label: str
    other: str


class Added(NamedTuple):
    """The number of new rows, the number of known rows, and the rows that contradict known labels."""

    added: int
    known: int
    conflicts: tuple[Conflict, ...]


def add_rows(
    path: Path,
    rows: Sequence[Example],
    known: Callable[[], Sequence[Example]],
    *,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    names: Mapping[str, str] = MappingProxyType({}),
) -> Added:
    """Append labeled rows to a JSONL file, except those that are known.

    Args:
        path: the file; it is created if missing.
        rows: the labeled rows.
        known: reads all known rows, those of the file included. It is called while the file is locked.
        columns: the names of the file's columns.
        names: the user's ids of the rows by row id; they are written if `columns.id` is named.

    Raises:
        InputError: the file cannot be written, or is not JSONL.
    """
    if path.suffix.lower() != ".jsonl":
        raise InputError(
            f"{path}: rows can only be added to JSON lines", remedy="name a .jsonl file under data.more in task.yaml"
        )
    try:
        with _sole_writer(path.parent):
            new, conflicts = _new(rows, known())
            if new:
                before = path.read_bytes() if path.exists() else b""
                lines = (json.dumps(_cells(row, columns, names.get(row.id)), ensure_ascii=False) for row in new)
                end = b"\n" if before and not before.endswith(b"\n") else b""
                write_atomic(path, before + end + "".join(line + "\n" for line in lines).encode("utf-8", HALVES))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="correct data.more in task.yaml") from error
    return Added(len(new), len(rows) - len(new) - len(conflicts), tuple(conflicts))


def _cells(row: Example, columns: Columns, name: str | None) -> dict[str, str]:
    own = {columns.id: name} if columns.id and name else {}
    return {**own, **text_fields(row.text, columns), columns.label: row.label}


def _new(rows: Sequence[Example], known: Sequence[Example]) -> tuple[list[Example], list[Conflict]]:
    """Return the rows with new texts, and those whose text is known with another label."""
    labels = {normalize(example.text): example.label for example in known}
    new, conflicts = [], []
    for row in rows:
        key = normalize(row.text)
        if key not in labels:
            new.append(row)
        elif labels[key] != row.label:
            conflicts.append(Conflict(row.id, row.label, labels[key]))
        labels.setdefault(key, row.label)
    return new, conflicts


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Wait until no other process adds rows in the folder, and lock it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
