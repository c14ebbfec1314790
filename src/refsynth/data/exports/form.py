"""The interface of an export's format, and the agreement of several annotators on one row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from refsynth.data.account import Reason


class FormError(ValueError):
    """A row of a known format that cannot be converted to a plain row; the message says why, and the remedy."""


class Read(NamedTuple):
    """A plain row, why the annotators left it out if they did, and the kinds of its contents that are not read."""

    values: Mapping[str, Any]
    left: Reason | None = None
    unread: tuple[str, ...] = ()


class ExportFormat(NamedTuple):
    """The export of a tool, named for messages: recognizes its rows, and reads one."""

    name: str
    recognize: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Read]


def agreed(answers: Sequence[Any]) -> tuple[Any, Reason | None]:
    """Return the common answer of several annotators; None and the reason if they differ. The order of a list is ignored."""
    spelled = {_spelled(answer) for answer in answers}
    return (None, "annotators differ") if len(spelled) > 1 else (answers[0], None)


def _spelled(answer: Any) -> str:
    if isinstance(answer, (list, tuple)):
        return "\n".join(sorted(map(_spelled, answer)))
    return json.dumps(answer, sort_keys=True, default=str)
