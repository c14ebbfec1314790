"""One spelling of a value, whichever format it came from: a spreadsheet's 1.0 is JSON's 1, Python's True is JSON's true.

Labels are compared by it in every file, in the configuration and in the estimator. A number, a truth value or a date is written
in one way. Any other text stays as it is, even "nan", "NA" and "null", since people use these as labels.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

_LONGEST = 40  # characters of a number, a truth value or a date
_DECIMAL = re.compile(r"(-?)(0|[1-9]\d*)\.(\d+)")  # 007 and 1e5 may be codes and stay
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)")
_EXACT = 1e22  # whole floats up to here equal the integers that they print as


def missing(value: Any) -> bool:
    """Return whether a value is missing: None, NaN, or a data frame's own missing value."""
    value = _unwrapped(value)
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float | Decimal) and value != value)
    )


def spell(value: Any) -> str | None:
    """Return a value as a text, the same for every format; None if it is missing or not a single value.

    >>> [spell(value) for value in (2.0, "2.0", True, "TRUE", 0.50, "0.50", "007", "2024-05-01T00:00:00")]
    ['2', '2', 'true', 'true', '0.5', '0.5', '007', '2024-05-01']
    """
    value = _unwrapped(value)
    if missing(value):
        return None
    if isinstance(value, bytes):
        return _decoded(value)
    if isinstance(value, float) and abs(value) < _EXACT:
        value = int(value) if value.is_integer() else format(Decimal(repr(value)), "f")
    if isinstance(value, Decimal):
        value = format(value, "f")
    if isinstance(value, datetime.datetime | datetime.date | datetime.time | datetime.timedelta):
        value = str(value)
    return _respelled(str(value)) if isinstance(value, str | int | float) else None


def _unwrapped(value: Any) -> Any:
    """Return the Python value of a NumPy scalar; any other value as it is."""
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def _respelled(text: str) -> str:
    """Return a text that is a number, a truth value or a date in its one spelling; any other text as it is."""
    bare = text.strip()
    if len(bare) > _LONGEST or not bare:
        return text
    if bare.lower() in ("true", "false"):
        return bare.lower()
    if number := _DECIMAL.fullmatch(bare):
        sign, before, after = number.groups()
        after = after.rstrip("0")
        return f"{sign}{before}.{after}" if after else "0" if before == "0" else sign + before
    if moment := _MOMENT.fullmatch(bare):
        day, time = moment.groups()
        time = time.rstrip("0").rstrip(".") if "." in time else time
        return day if not time.strip("0:") else f"{day} {time}"
    return text


def _decoded(value: bytes) -> str | None:
    """Return bytes as UTF-8 text, None if they are not; some writers of Parquet do not mark texts as such."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
