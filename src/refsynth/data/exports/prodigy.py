"""Reads Prodigy's tasks with an answer, from `prodigy db-out`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.data.exports.form import ExportFormat, FormError, Read

_REFUSED = ("reject", "ignore")
_OTHERS = ("_task_hash", "_input_hash", "spans", "accept", "options", "label")


def _is_task(values: Mapping[str, Any]) -> bool:
    answer = values.get("answer")
    return answer in _REFUSED or (answer == "accept" and any(key in values for key in _OTHERS))


def _read_task(values: Mapping[str, Any]) -> Read:
    """Read an accepted task with its label. A rejected one only says what its text is not, so it is left out."""
    if values["answer"] != "accept":
        return Read({**values, "label": None}, "not accepted")
    unread = ("relations",) if values.get("relations") else ()
    if isinstance(values.get("accept"), list):
        return Read({**values, "label": values["accept"]}, None, unread)
    if "label" in values or "spans" not in values:
        return Read(values, None, unread)
    if not isinstance(values.get("text"), str):
        raise FormError("spans without a text")
    return Read({**values, "label": values["spans"]}, None, unread)


PRODIGY = ExportFormat("a task of Prodigy", _is_task, _read_task)
