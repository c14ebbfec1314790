"""Back-translation into a pivot language and back: the words change, the meaning stays.

Sennrich et al., 2016, "Improving Neural Machine Translation Models with Monolingual Data"; as augmentation Xie et al., 2020, UDA,
section 2.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from refsynth.synthesis.augment.copies import distinct


@runtime_checkable
class Translator(Protocol):
    """Translates in one direction."""

    @property
    def name(self) -> str:
        """The identity that provenance records: engine, version or content hash, and direction."""
        ...

    def translate(self, texts: Sequence[str], *, n: int) -> list[list[str]]:
        """Return at most `n` translations of each text, the best first; none for a text that cannot be translated."""
        ...


class BackTranslator:
    """An augmenter of two translators. Deterministic: the best translation forward, the `n` best back."""

    def __init__(self, forward: Translator, back: Translator) -> None:
        self._forward, self._back = forward, back

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return f"{self._forward.name}, {self._back.name}"

    def augment(self, texts: Sequence[str], *, n: int, seed: int) -> list[list[str]]:
        """Return at most `n` back-translations of each text. The seed has no effect."""
        pivots = {index: row[0] for index, row in enumerate(self._forward.translate(texts, n=1)) if row}
        # One more than needed: the text itself is often among the best.
        returned = dict(zip(pivots, self._back.translate(list(pivots.values()), n=n + 1), strict=True))
        return [distinct(text, returned.get(index, ()), n=n) for index, text in enumerate(texts)]
