"""A pair of texts as one: two halves with a sign between them that stands in neither. Every stage passes it on like any text.

Only who tokenises takes it apart, so that an encoder sees its own separator there.
"""

from __future__ import annotations

DIVIDER = "‖"


def join_pair(first: str, second: str) -> str:
    """Return the pair as one text; the divider, where a half holds it, becomes a bar."""
    return f" {DIVIDER} ".join(half.replace(DIVIDER, "|").strip() for half in (first, second))


def split_pair(text: str) -> tuple[str, str] | None:
    """Return the halves of a pair, or None where the text is not two texts with one divider between them."""
    if DIVIDER not in text:
        return None
    halves = [half.strip() for half in text.split(DIVIDER)]
    return (halves[0], halves[1]) if len(halves) == 2 and all(halves) else None
