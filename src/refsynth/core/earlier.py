"""The reports of earlier runs in one folder: a second run there, with other rows or values, throws none of them away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = "reports"

VOLATILE = {"date", "version", "command", "machine", "seconds", "steps", "texts_per_second", "p50_ms"}
"""What differs between two reports of one run: when, how and how fast it was made."""


def put_aside(folder: Path, names: Sequence[str], report: str) -> tuple[Path, ...]:
    """Move the files of an earlier report into `FOLDER` under the next number, where it says something else than `report`.

    Args:
        folder: of the run.
        names: of the files, among them report.json.
        report: the JSON that is about to be written.

    Returns:
        where the files are now; nothing where none was moved.
    """
    told = folder / "report.json"
    if not told.is_file() or _lasting(told.read_text("utf-8")) == _lasting(report):
        return ()
    return move_aside(folder, names)


def move_aside(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Move the files of an earlier report into `FOLDER` under the next number; return where they are now."""
    if not any((folder / name).is_file() for name in names):
        return ()
    aside = folder / FOLDER
    aside.mkdir(exist_ok=True)
    number = 1 + max((int(path.name[:4]) for path in aside.iterdir() if path.name[:4].isdigit()), default=0)
    moved = []
    for name in names:
        if (folder / name).is_file():
            moved.append((folder / name).rename(aside / f"{number:04}-{name}"))
    return tuple(moved)


def _lasting(report: str) -> Any:
    """Return what a report says of the model; None where the file is no report."""
    try:
        return _without(json.loads(report))
    except ValueError:
        return None


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without(item) for name, item in value.items() if name not in VOLATILE}
    return [_without(item) for item in value] if isinstance(value, list) else value
