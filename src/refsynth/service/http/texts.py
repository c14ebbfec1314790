"""Turn a row of a request into the text that the bundle reads.

Empty texts are never answered: their label would only be the model's bias.
"""

from __future__ import annotations

from refsynth.core.errors import RefsynthError
from refsynth.core.pair import DIVIDER, join_pair
from refsynth.data.empty import EMPTY, missing_in
from refsynth.data.text import clean
from refsynth.service.http.batching import RowError
from refsynth.service.http.errors import Invalid


class EmptyText(RowError):
    """A text without content. The message is the one that `refsynth predict` gives."""

    code = "empty_text"

    def __init__(self, found: str) -> None:
        self.reason = self.code
        RefsynthError.__init__(self, found)


def read_text(row: str | list[str], place: str, *, pairs: bool) -> str | EmptyText:
    """Return a row as one text; an EmptyText if it has no content.

    Args:
        row: the text, or the two texts of a pair.
        place: the field of the request, for messages.
        pairs: whether the bundle labels pairs.

    Raises:
        Invalid: the row is a pair but the bundle labels single texts, or vice versa.
    """
    if isinstance(row, str) and not clean(row):
        return EmptyText(EMPTY)
    if pairs:
        halves = row.split(DIVIDER) if isinstance(row, str) else row
        if len(halves) != 2:
            raise Invalid(f"{place}: expected [first, second], or one text with {DIVIDER} between them")
        text = join_pair(*halves)
    elif isinstance(row, str):
        text = row
    else:
        raise Invalid(f"{place}: expected a text: the bundle does not label pairs")
    problem = missing_in(text, pairs=pairs)
    return text if problem is None else EmptyText(problem)
