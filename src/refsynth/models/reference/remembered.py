"""RememberedScores: a reference that keeps what it has said of texts, so that nothing that was paid for is asked twice.

Drafts have a journal of their own (`synthesis.ledger`); this is that of scores. A line has a hash and a number, no text. It is
written when a batch is answered, so that a run that was killed, or whose code has changed, goes on from there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from refsynth.core.protocols import Chatting, Generator
from refsynth.core.run import digest
from refsynth.core.types import Completion, FloatArray, Prompt

BATCH = 64
"""Scores that are asked for at once: what is lost when the process dies."""


class RememberedScores:
    """A generator whose scores are in a file."""

    def __init__(self, generator: Generator, file: Path, *, identity: str) -> None:
        """Read what the file has.

        Args:
            generator: who is asked for what it lacks.
            file: made with the first answer.
            identity: of the generator and of where it is; scores of another are not taken for its own.
        """
        self._generator, self._file, self._identity = generator, file, identity
        self._known = dict(_read(file))

    @property
    def name(self) -> str:
        """The identity that provenance records."""
        return self._generator.name

    @property
    def chats(self) -> bool:
        """Whether the generator is spoken to."""
        return isinstance(self._generator, Chatting) and self._generator.chats

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return what the generator writes."""
        return self._generator.generate(prompts, n=n, seed=seed)

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return the mean log P per token of each text after its prompt, in nats: [N], as the generator has said or says now."""
        keys = [self._key(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        open_places = {key: place for place, key in enumerate(keys) if key not in self._known}
        places = list(open_places.values())
        for start in range(0, len(places), BATCH):
            some = places[start : start + BATCH]
            values = self._generator.score([prompts[place] for place in some], [texts[place] for place in some])
            self._keep({keys[place]: float(value) for place, value in zip(some, values, strict=True)})
        return np.asarray([self._known[key] for key in keys], dtype=np.float64)

    def _key(self, prompt: Prompt, text: str) -> str:
        return digest([self._identity, prompt.text, text])[:32]

    def _keep(self, scores: Mapping[str, float]) -> None:
        self._known.update(scores)
        lines = (json.dumps([key, None if math.isnan(value) else value]) for key, value in scores.items())
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write("".join(f"{line}\n" for line in lines))
            stream.flush()
            os.fsync(stream.fileno())


def _read(file: Path) -> list[tuple[str, float]]:
    """Return the scores in a file; a torn last line, the mark of a killed process, is cut off."""
    found: list[tuple[str, float]] = []
    if not file.exists():
        return found
    good = 0
    with file.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            key, value = json.loads(line)
            found.append((key, math.nan if value is None else value))
            good += len(line)
    os.truncate(file, good)
    return found
