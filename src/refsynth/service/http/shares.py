"""Limit what callers hold at once of a shared resource, each and all together."""

from __future__ import annotations

from collections import Counter


class Shares:
    """`whole` units, of which one holder may have at most `part`. Belongs to one event loop."""

    def __init__(self, whole: int, part: int | None = None) -> None:
        self.whole, self.part = whole, whole if part is None else part
        self._held: Counter[str] = Counter()
        self.taken = 0
        """Units that are held now."""

    def take(self, holder: str, n: int = 1) -> bool:
        """Take `n` units; return False and take nothing if that exceeds the holder's part or the whole."""
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
