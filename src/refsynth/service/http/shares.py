"""What callers hold at once of something that all share: none more than a part of it, all together no more than there is."""

from __future__ import annotations

from collections import Counter


class Shares:
    """A stock of `whole` units, of which one holder may have `part` at most. Belongs to one event loop."""

    def __init__(self, whole: int, part: int | None = None) -> None:
        self.whole, self.part = whole, whole if part is None else part
        self._held: Counter[str] = Counter()
        self.taken = 0
        """Units that are held now."""

    def take(self, holder: str, n: int = 1) -> bool:
        """Take units; return False, and take nothing, where the stock or the holder's part of it does not reach."""
        if self.taken + n > self.whole or self._held[holder] + n > self.part:
            return False
        self.taken += n
        self._held[holder] += n
        return True

    def give(self, holder: str, n: int = 1) -> None:
        """Give units back."""
        self.taken -= n
        self._held[holder] -= n
        if not self._held[holder]:
            del self._held[holder]
