"""Measured cells on disk: one JSON line each, appended when it is measured, so that a long bench goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

from refsynth.core.errors import InputError

Cell = dict[str, Any]


class Cells:
    """The cells of one bench. A cell is known by its `set`, `seed`, `system` and the `version` of what was measured.

    With a `machine`, cells of other machines are left out: a bench of times must not go on elsewhere.

    Raises:
        InputError: a line of the file is no JSON.
    """

    def __init__(self, path: Path, *, machine: str | None = None) -> None:
        self._path = path
        content = path.read_bytes() if path.exists() else b""
        self._whole = content.rfind(b"\n") + 1  # a bench that was killed while it wrote leaves half a line
        rows = [self._parsed(number, line) for number, line in enumerate(content[: self._whole].splitlines(), 1)]
        self.rows = [row for row in rows if machine is None or row["machine"] == machine]

    def _parsed(self, number: int, line: bytes) -> Cell:
        try:
            cell: Cell = json.loads(line)
        except ValueError as error:
            raise InputError(f"{self._path} line {number}: not JSON", remedy="remove the line") from error
        return cell

    def find(self, **key: Any) -> list[Cell]:
        """Return the cells that have these values."""
        return [row for row in self.rows if all(row.get(name) == value for name, value in key.items())]

    def of(self, bench: str) -> Cells:
        """Return the cells of another bench of the same folder."""
        return Cells(self._path.with_name(f"{bench}.jsonl"))

    def within(self, parts: Sequence[str]) -> Cells:
        """Return those of some data sets, or parts; all if none is named."""
        return self.view([row for row in self.rows if not parts or row.get("part", row.get("set")) in parts])

    def view(self, rows: list[Cell]) -> Cells:
        """Return some of the cells."""
        some = copy(self)
        some.rows = rows
        return some

    def add(self, cell: Cell) -> None:
        """Append a cell to the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size > self._whole:
            os.truncate(self._path, self._whole)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(cell, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
            self._whole = stream.tell()
        self.rows.append(cell)
