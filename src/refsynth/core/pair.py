"""A pair of texts as one text: two halves with a sign between them that neither contains.

Every stage passes it on like any text. Only tokenizers take it apart, so that an encoder sees its own separator.
"""

from __future__ import annotations

DIVIDER = "‖"


def join_pair(first: str, second: str) -> str:
    """Return the pair as one text. A divider inside a half becomes a bar."""
    return f" {DIVIDER} ".join(half.replace(DIVIDER, "|").strip() for half in (first, second))


def split_pair(text: str) -> tuple[str, str] | None:
    """Return the halves of a pair, or None if the text is not two texts with one divider between them."""
    if DIVIDER not in text:
        return None
    halves = [half.strip() for half in text.split(DIVIDER)]
    return (halves[0], halves[1]) if len(halves) == 2 and all(halves) else None
