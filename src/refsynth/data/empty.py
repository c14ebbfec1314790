"""Recognizes texts without visible characters. They get no label: it would only show the model's prior."""

from __future__ import annotations

from collections.abc import Sequence

from refsynth.core.errors import ArgumentError
from refsynth.core.pair import DIVIDER
from refsynth.data.text import clean

EMPTY = "empty text"


def missing_in(text: str, *, pairs: bool) -> str | None:
    """Return what is missing in a text, or in a pair as one text; None if nothing is."""
    if not clean(text):
        return EMPTY
    halves = text.split(DIVIDER) if pairs else [text]
    missing = next((name for name, half in zip(("first", "second"), halves, strict=False) if not clean(half)), None)
    return None if missing is None else f"no text in '{missing}' of [first, second]"


def refuse_empty(texts: Sequence[str], *, pairs: bool = False, name: str = "texts") -> None:
    """Check that no text is empty.

    Raises:
        ArgumentError: some are; it names the first and their number.
    """
    bad = [place for place, text in enumerate(texts) if isinstance(text, str) and missing_in(text, pairs=pairs)]
    if bad:
        why = missing_in(texts[bad[0]], pairs=pairs)
        more = f" (and {len(bad) - 1:,} more)" if len(bad) > 1 else ""
        raise ArgumentError(f"{name}[{bad[0]}]: {why}{more}", expected="texts with words", remedy="leave empty texts out")
