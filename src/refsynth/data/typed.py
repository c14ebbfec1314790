"""Converts the cells of a workbook, which are read as texts, back to numbers, booleans and dates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

EXACT = 15
"""Digits of a number that Excel keeps."""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d+)?)?")


class Spelled(str):
    """A cell that was not a text, as `core.value` spells it. A text cell that looks the same stays a plain `str`."""

    __slots__ = ()


def typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a row with numbers, booleans and dates restored, and texts unchanged."""
    return {name: _value_of(value) if isinstance(value, Spelled) else value for name, value in values.items()}


def _value_of(text: str) -> Any:
    if _NUMBER.fullmatch(text) and len(text) <= EXACT:
        return float(text) if "." in text else int(text)
    if text in ("true", "false"):
        return text == "true"
    try:
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text)
        return date.fromisoformat(text) if _DAY.fullmatch(text) else str(text)
    except ValueError:
        return str(text)
