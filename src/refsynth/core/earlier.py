"""The reports of earlier runs in one folder: a second run there, with other rows or values, overwrites none of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = "reports"

VOLATILE = {"date", "version", "command", "machine", "seconds", "steps", "texts_per_second", "p50_ms"}
"""What differs between two reports of the same run: when, how and how fast it was made."""


def archive_report(folder: Path, names: Sequence[str], *, unless: str | None = None) -> tuple[Path, ...]:
    """Move the files of an earlier report into `FOLDER`, under the next number.

    Args:
        folder: the run folder.
        names: the names of the report's files; report.json is one of them.
        unless: the JSON of the next report; if the earlier one says the same, nothing is moved.

    Returns:
        the new paths of the files; empty if none was moved.
    """
    current = folder / "report.json"
    if unless is not None and (not current.is_file() or _lasting(current.read_text("utf-8")) == _lasting(unless)):
        return ()
    present = [name for name in names if (folder / name).is_file()]
    if not present:
        return ()
    archive = folder / FOLDER
    archive.mkdir(exist_ok=True)
    number = 1 + max((int(path.name[:4]) for path in archive.iterdir() if path.name[:4].isdigit()), default=0)
    return tuple((folder / name).rename(archive / f"{number:04}-{name}") for name in present)


def _lasting(report: str) -> Any:
    """Return the content of a report without what is volatile; None if it is not JSON."""
    try:
        return _without_volatile(json.loads(report))
    except ValueError:
        return None


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_volatile(item) for name, item in value.items() if name not in VOLATILE}
    return [_without_volatile(item) for item in value] if isinstance(value, list) else value
