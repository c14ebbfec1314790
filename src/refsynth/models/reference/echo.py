"""EchoGenerator: a reference without a model, for trying out a pipeline in seconds and for tests.

It shuffles the words that its prompts show, so its texts carry their class's words and no sense. Same arguments, same texts.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from refsynth.core.run import digest
from refsynth.core.types import Completion, FloatArray, Prompt

_LONGEST = 14
_FILLERS = ("again", "today", "please", "now", "here", "still", "maybe", "soon")


class EchoGenerator:
    """Writes rearranged words of the prompt's last paragraph (its shown examples), or of all of it where that holds few."""

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return "echo"

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` texts for each prompt, all of one prompt distinct."""
        rows = []
        for index, prompt in enumerate(prompts):
            rng = random.Random(digest([seed, index, prompt.text, prompt.label]))
            texts = dict.fromkeys(text for text, _ in zip(_texts(prompt, rng), range(n), strict=False))
            rows.append([Completion(text, finished=True) for text in texts])
        return rows

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return log((shared + 1) / (words + 1)) of each text's words that its prompt shares: [N], at most 0."""
        values = []
        for prompt, text in zip(prompts, texts, strict=True):
            known, words = set(_pieces(prompt.text.lower())), _pieces(text.lower())
            values.append(np.log((sum(word in known for word in words) + 1) / (len(words) + 1)))
        return np.asarray(values, dtype=np.float64)


def _texts(prompt: Prompt, rng: random.Random) -> Iterator[str]:
    """Yield distinct texts without end."""
    shown = [line.lstrip("-* ") for line in prompt.text.rpartition("\n\n")[2].splitlines()]
    words = [word for line in shown for word in _pieces(line)]
    if len(words) < 3:
        words = _pieces(prompt.text) or _pieces(prompt.label) or list(_FILLERS)
    joint = "" if all(len(word) == 1 for word in words) else " "
    seen: set[str] = set()
    while True:
        chosen = rng.sample(words, min(len(words), rng.randint(4, _LONGEST)))
        while (text := " " + joint.join(chosen)) in seen:
            chosen.append(rng.choice(_FILLERS))
        seen.add(text)
        yield text


def _pieces(text: str) -> list[str]:
    """Return the words; of a text that writes no spaces, the characters."""
    words = text.split()
    if text.isascii() or len(words) * 6 > len(text):
        return words
    return [character for word in words for character in word]
