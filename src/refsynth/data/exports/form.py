"""What a form of export is, and what all of them share: several people's answers to one row."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from refsynth.data.account import Reason


class FormError(ValueError):
    """A row of a known form that cannot be told in plain words; the message says what it holds, and what to do."""


class Read(NamedTuple):
    """A row in plain words, why its people left it out if they did, and the kinds of things in it that are not read."""

    values: Mapping[str, Any]
    left: Reason | None = None
    unread: tuple[str, ...] = ()


class ExportFormat(NamedTuple):
    """An export by the tool's name: which rows are of it, and how one is read."""

    name: str
    recognize: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Read]


def agreed(answers: Sequence[Any]) -> tuple[Any, Reason | None]:
    """Return what several people said of a row; None and the reason where they differ. The order of a list does not matter."""
    spelled = {_spelled(answer) for answer in answers}
    return (None, "annotators differ") if len(spelled) > 1 else (answers[0], None)


def _spelled(answer: Any) -> str:
    if isinstance(answer, (list, tuple)):
        return "\n".join(sorted(_spelled(each) for each in answer))
    return json.dumps(answer, sort_keys=True, default=str)
