"""Typing noise: keyboard slips, case and punctuation. The same seed gives the same copies.

Words with digits or signs (amounts, order numbers, addresses) do not change, since they can decide the label. Keyboard slips
cover the Latin letters of a QWERTY keyboard; in other scripts only case and punctuation change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from refsynth.core.hashes import derive_seed
from refsynth.synthesis.augment.copies import distinct

RATE = 0.08
"""Slips per letter. One slip breaks four character 4-grams, so a copy at this rate overlaps its row by about 0.56 in them."""

TRIES = 4
"""Attempts per requested copy: a short text may come out unchanged."""

DROPPED = 0.3
"""Probability that a punctuation mark is dropped; it is doubled with half of this probability."""

_ROWS = (("qwertyuiop", 0.0), ("asdfghjkl", 0.25), ("zxcvbnm", 0.75))
_PLACES = {key: (index + shift, row) for row, (keys, shift) in enumerate(_ROWS) for index, key in enumerate(keys)}
NEIGHBORS = {
    key: "".join(other for other, (a, b) in _PLACES.items() if other != key and abs(a - x) <= 1 and abs(b - y) <= 1)
    for key, (x, y) in _PLACES.items()
}
"""The keys around each key of a QWERTY keyboard."""

_FIXED = re.compile(r"[^\W\d_]*[\d@/_#&<>=\\].*")
_MARKS = frozenset(",.;:!?'-…，。；：！？、")


class NoiseAugmenter:
    """Copies with typing noise. A copy depends on its text and the seed, not on the other texts."""

    name = f"noise {RATE}"

    def augment(self, texts: Sequence[str], *, n: int, seed: int) -> list[list[str]]:
        """Return at most `n` noisy copies of each text."""
        return [distinct(text, self._copies(text, n * TRIES, seed), n=n) for text in texts]

    @staticmethod
    def _copies(text: str, tries: int, seed: int) -> Iterator[str]:
        rng = np.random.default_rng(derive_seed(seed, text))
        for _ in range(tries):
            words = [word if _FIXED.fullmatch(word) else _marks(_slips(word, rng), rng) for word in text.split()]
            yield _case(words, rng)


def _slips(word: str, rng: np.random.Generator) -> str:
    """Return the word with each letter typed wrong with probability `RATE`."""
    letters = list(word)
    for index in np.flatnonzero(rng.random(len(letters)) < RATE):
        if letters[index].lower() in NEIGHBORS:
            slip = _SLIPS[rng.integers(len(_SLIPS))]
            slip(letters, int(index), rng)
    return "".join(letters) or word


def _neighbor(letters: list[str], index: int, rng: np.random.Generator) -> None:
    around = NEIGHBORS[letters[index].lower()]
    key = around[rng.integers(len(around))]
    letters[index] = key.upper() if letters[index].isupper() else key


def _swap(letters: list[str], index: int, rng: np.random.Generator) -> None:
    if index + 1 < len(letters):
        letters[index : index + 2] = letters[index + 1], letters[index]


def _drop(letters: list[str], index: int, rng: np.random.Generator) -> None:
    letters[index] = ""


def _double(letters: list[str], index: int, rng: np.random.Generator) -> None:
    letters[index] *= 2


_SLIPS: tuple[Callable[[list[str], int, np.random.Generator], None], ...] = (_neighbor, _swap, _drop, _double)


def _marks(word: str, rng: np.random.Generator) -> str:
    """Return the word with punctuation marks dropped or doubled."""

    def mark(character: str) -> str:
        chance = rng.random()
        return "" if chance < DROPPED else character * 2 if chance < 1.5 * DROPPED else character

    return "".join(mark(character) if character in _MARKS else character for character in word)


def _case(words: list[str], rng: np.random.Generator) -> str:
    """Return the words joined: unchanged, all in lower case, or with one word in capitals."""
    chance = rng.random()
    if chance < 0.3:
        words = [word.lower() for word in words]
    elif chance < 0.5 and words:
        place = int(rng.integers(len(words)))
        words[place] = words[place].upper()
    return " ".join(words)
