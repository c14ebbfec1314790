"""What stands in the column of the label, as a label or as a set of labels. Knows nothing of the task's labels."""

from __future__ import annotations

from typing import Any

from refsynth.core.errors import InputError
from refsynth.core.labelset import JOINER, NONE, whole
from refsynth.data.text import clean


def as_label(value: Any) -> str | None:
    """Return a cell as a label: empty where nothing stands, None where it cannot be one."""
    if value is None or value == [] or isinstance(value, bool):  # an empty list names no label
        return str(value).lower() if isinstance(value, bool) else ""
    value = whole(value)
    return clean(str(value)) if isinstance(value, str | int | float) else None


def check_separator(separator: str | None) -> None:
    """Refuse a separator that parts nothing.

    Raises:
        InputError: it is empty.
    """
    if separator == "":
        raise InputError("--separator: is empty", expected='what stands between the labels in a cell, such as "|" or ";"')


def as_labels(value: Any, separator: str) -> str | None:
    """Return a JSON list, or the parts of a cell, as a set of labels: empty where nothing stands, None where it cannot be one."""
    if not isinstance(value, (list, tuple)):
        cell = as_label(value)
        parts = cell.split(separator) if cell and cell != NONE else []
        return JOINER.join(part.strip() for part in parts if part.strip()) or cell
    names = [as_label(name) for name in value]
    return JOINER.join(dict.fromkeys(name for name in names if name)) or NONE if all(names) else None
