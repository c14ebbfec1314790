"""EchoGenerator: a reference without a model, to try a pipeline in seconds and for tests.

It shuffles the words of its prompts, so its texts have the words of their class but make no sense. They depend only on the
arguments.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np

from refsynth.core.hashes import digest
from refsynth.core.types import Completion, FloatArray, Prompt

_LONGEST = 14
_FILLERS = ("again", "today", "please", "now", "here", "still", "maybe", "soon")


class EchoGenerator:
    """Generates rearranged words of the prompt's last paragraph, its examples, or of the whole prompt if that has few words."""

    @property
    def name(self) -> str:
        """The name in the provenance of drafts."""
        return "echo"

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` distinct texts for each prompt."""
        rows = []
        for index, prompt in enumerate(prompts):
            rng = random.Random(digest([seed, index, prompt.text, prompt.label]))
            texts = dict.fromkeys(text for text, _ in zip(_texts(prompt, rng), range(n), strict=False))
            rows.append([Completion(text, finished=True) for text in texts])
        return rows

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return log((shared + 1) / (words + 1)) for each text [N], from its words and those that its prompt has too."""
        values = []
        for prompt, text in zip(prompts, texts, strict=True):
            known, words = set(_pieces(prompt.text.lower())), _pieces(text.lower())
            values.append(np.log((sum(word in known for word in words) + 1) / (len(words) + 1)))
        return np.asarray(values, dtype=np.float64)


def _texts(prompt: Prompt, rng: random.Random) -> Iterator[str]:
    """Yield distinct texts endlessly."""
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
    """Return the words, or the characters if the text has no spaces between words."""
    words = text.split()
    if text.isascii() or len(words) * 6 > len(text):
        return words
    return [character for word in words for character in word]
