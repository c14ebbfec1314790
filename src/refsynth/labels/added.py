"""Rows that people label after the first run: checked, and appended to a file exactly once.

The file of added rows is only ever replaced whole, and a text that is in it is not added again: whenever the process dies, and
however often the same answers come, each is there once or not at all.
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
from refsynth.core.run import HALVES, write_atomic
from refsynth.core.sections import Columns
from refsynth.core.types import Example
from refsynth.data.columns import text_fields
from refsynth.data.text import normalise


class Conflict(NamedTuple):
    """A text that has a label already, and was given another."""

    row: str
    label: str
    other: str


class Added(NamedTuple):
    """What became of the rows: how many are new, how many were known, and which contradict what was known."""

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
    """Append labelled rows to a JSONL file, those that are not known yet.

    Args:
        path: the file, which is made if it is not there.
        rows: what people said.
        known: reads all rows that have labels already, those of the file among them; called when nobody else can change it.
        columns: the names of the file's columns.
        names: what the user calls rows, by their ids; kept where the column of that is named.

    Raises:
        InputError: the file cannot be written, or is not JSONL.
    """
    if path.suffix.lower() != ".jsonl":
        raise InputError(
            f"{path}: rows can be added to JSON lines only", remedy="name a .jsonl file under data.more in task.yaml"
        )
    try:
        with _sole_writer(path.parent):
            fresh, conflicts = _news(rows, known())
            if fresh:
                before = path.read_bytes() if path.exists() else b""
                lines = (json.dumps(_cells(row, columns, names.get(row.id)), ensure_ascii=False) for row in fresh)
                end = b"\n" if before and not before.endswith(b"\n") else b""
                write_atomic(path, before + end + "".join(line + "\n" for line in lines).encode("utf-8", HALVES))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="correct data.more in task.yaml") from error
    return Added(len(fresh), len(rows) - len(fresh) - len(conflicts), tuple(conflicts))


def _cells(row: Example, columns: Columns, name: str | None) -> dict[str, str]:
    called = {columns.id: name} if columns.id and name else {}
    return {**called, **text_fields(row.text, columns), columns.label: row.label}


def _news(rows: Sequence[Example], known: Sequence[Example]) -> tuple[list[Example], list[Conflict]]:
    """Return the rows whose text is not known, and those whose text is known under another label."""
    labels = {normalise(example.text): example.label for example in known}
    fresh, conflicts = [], []
    for row in rows:
        key = normalise(row.text)
        if key not in labels:
            fresh.append(row)
        elif labels[key] != row.label:
            conflicts.append(Conflict(row.id, row.label, labels[key]))
        labels.setdefault(key, row.label)
    return fresh, conflicts


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Wait until no other process adds rows in the folder."""
    place = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)
