"""RememberedScores: a reference that keeps its scores in a file, so that no score is paid for twice.

Drafts have a journal of their own (`synthesis.ledger`). A line of this file has a hash and a number, no text. Lines are written
after each batch, so a killed run, or one with other code, continues from there.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from refsynth.core.hashes import digest
from refsynth.core.protocols import Chatting, Generator
from refsynth.core.types import Completion, FloatArray, Prompt

BATCH = 64
"""Scores of one request to the generator: a killed process loses at most so many."""


class RememberedScores:
    """A generator whose scores are in a file."""

    def __init__(self, generator: Generator, file: Path, *, identity: str) -> None:
        """Read the scores of the file. `identity` names the generator and its address: scores of others are not used."""
        self._generator, self._file, self._identity = generator, file, identity
        self._known = dict(_read(file))

    @property
    def name(self) -> str:
        """The name in the provenance of drafts."""
        return self._generator.name

    @property
    def chats(self) -> bool:
        """Whether the generator takes chat messages."""
        return isinstance(self._generator, Chatting) and self._generator.chats

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return the generator's completions."""
        return self._generator.generate(prompts, n=n, seed=seed)

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return the mean log P per token of each text after its prompt, in nats: [N]."""
        pairs = zip(prompts, texts, strict=True)
        keys = [digest([self._identity, prompt.text, text])[:32] for prompt, text in pairs]
        missing = {key: place for place, key in enumerate(keys) if key not in self._known}
        places = list(missing.values())
        for start in range(0, len(places), BATCH):
            batch = places[start : start + BATCH]
            values = self._generator.score([prompts[place] for place in batch], [texts[place] for place in batch])
            self._keep({keys[place]: float(value) for place, value in zip(batch, values, strict=True)})
        return np.asarray([self._known[key] for key in keys], dtype=np.float64)

    def _keep(self, scores: Mapping[str, float]) -> None:
        self._known.update(scores)
        lines = (json.dumps([key, None if math.isnan(value) else value]) for key, value in scores.items())
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write("".join(f"{line}\n" for line in lines))
            stream.flush()
            os.fsync(stream.fileno())


def _read(file: Path) -> list[tuple[str, float]]:
    """Return the scores in a file, and cut off an incomplete last line, which a killed process may leave."""
    scores: list[tuple[str, float]] = []
    if not file.exists():
        return scores
    complete = 0
    with file.open("rb") as stream:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            key, value = json.loads(line)
            scores.append((key, math.nan if value is None else value))
            complete += len(line)
    os.truncate(file, complete)
    return scores
