"""Cells of a workbook, which are read as texts, as the numbers, truth values and moments that they were."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

EXACT = 15
"""Digits that Excel keeps of a number."""
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d(\.\d+)?)?")


def typed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a row with numbers and days as such again."""
    return {name: _typed(value) for name, value in values.items()}


def _typed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if _NUMBER.fullmatch(value) and len(value) <= EXACT:
        return float(value) if "." in value else int(value)
    if value in ("true", "false"):
        return value == "true"
    try:
        if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value)
        return date.fromisoformat(value) if _DAY.fullmatch(value) else value
    except ValueError:
        return value
