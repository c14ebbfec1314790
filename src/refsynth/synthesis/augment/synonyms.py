"""Replaces words by synonyms (after EDA, Wei and Zou, 2019, section 2).

Each word that has synonyms is drawn at random from these and itself. About one word in ten has some (9 to 12% on three public
sets), which is the share that EDA replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np

from refsynth.core.extras import require
from refsynth.core.hashes import derive_seed
from refsynth.synthesis.augment.copies import distinct
from refsynth.synthesis.augment.wordnet import WordNet

TRIES = 4
"""Attempts per requested copy: the same words may be drawn twice."""

_WORDS = re.compile(r"[A-Za-z][a-z]{2,}(?![\w'])")


class SynonymAugmenter:
    """Copies with synonyms from an English dictionary.

    Only base forms of content words change, since an inflected synonym would need grammar. Capitalized words inside a text count
    as names and do not change. A copy depends on its text and the seed, not on the other texts.
    """

    def __init__(self, dictionary: WordNet) -> None:
        self._dictionary = dictionary
        self._function_words = require("sklearn.feature_extraction.text", extra="train").ENGLISH_STOP_WORDS

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return f"wordnet {self._dictionary.version}"

    def augment(self, texts: Sequence[str], *, n: int, seed: int) -> list[list[str]]:
        """Return at most `n` copies of each text with some words replaced; none if no word has a synonym."""
        return [distinct(text, self._copies(text, n * TRIES, seed), n=n) for text in texts]

    def _copies(self, text: str, tries: int, seed: int) -> Iterator[str]:
        places = [(match, others) for match in _WORDS.finditer(text) if (others := self._others(match))]
        if not places:
            return
        rng = np.random.default_rng(derive_seed(seed, text))
        for _ in range(tries):
            copy = text
            for match, others in reversed(places):  # from the end, so that earlier positions stay valid
                chosen = (match.group(), *others)[rng.integers(len(others) + 1)]
                chosen = chosen.capitalize() if match.group()[0].isupper() else chosen
                copy = copy[: match.start()] + chosen + copy[match.end() :]
            yield copy

    def _others(self, match: re.Match[str]) -> tuple[str, ...]:
        word = match.group()
        at_start = not match.string[: match.start()].strip()
        inside = match.start() > 0 and (match.string[match.start() - 1].isalnum() or match.string[match.start() - 1] in "'_")
        if inside or word.lower() in self._function_words or (word[0].isupper() and not at_start):
            return ()
        return self._dictionary.synonyms(word.lower())
