"""What a request gives as a text, as the bundle takes it.

An empty one is never answered: it says nothing, and its label would be the model's habit.
"""

from __future__ import annotations

from refsynth.core.errors import RefsynthError
from refsynth.core.pair import DIVIDER, join_pair
from refsynth.data.nothing import EMPTY, nothing_in
from refsynth.data.text import clean
from refsynth.service.http.batching import RowError
from refsynth.service.http.errors import Invalid


class EmptyText(RowError):
    """There is nothing to answer, in the words of `refsynth predict`."""

    code = "empty_text"

    def __init__(self, found: str) -> None:
        self.reason = self.code
        RefsynthError.__init__(self, found)


def read_text(given: str | list[str], place: str, *, pairs: bool) -> str | EmptyText:
    """Return a text, a pair as one; or why there is none.

    Args:
        given: the text, or the two of a pair.
        place: where it stands in the request, for messages.
        pairs: whether the bundle labels pairs.

    Raises:
        Invalid: it is a pair for a bundle of single texts, or the other way round.
    """
    if isinstance(given, str) and not clean(given):
        return EmptyText(EMPTY)
    halves = [given] if not pairs and isinstance(given, str) else given.split(DIVIDER) if isinstance(given, str) else given
    if len(halves) != (2 if pairs else 1) or (not pairs and isinstance(given, list)):
        expected = f"[first, second], or one text with {DIVIDER} between them" if pairs else "a text: the bundle labels no pairs"
        raise Invalid(f"{place}: expected {expected}")
    whole = join_pair(*halves) if pairs else halves[0]
    return whole if (why := nothing_in(whole, pairs=pairs)) is None else EmptyText(why)
