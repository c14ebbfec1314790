"""The leakage guard: training rows, drafts or real, that resemble rows of the test file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from refsynth.core.pair import split_pair
from refsynth.core.types import Example
from refsynth.data.text import NEAR, Nearest, nearest_of, nearest_overlap, normalise

LEAKED = "resembles a test row"
"""Why a draft is left out."""


def leaked(drafts: Sequence[Example], test_texts: Sequence[str]) -> list[str]:
    """Return the ids of the drafts that are an exact or near duplicate of a test text."""
    overlap = nearest_overlap([draft.text for draft in drafts], test_texts)
    return [draft.id for draft, share in zip(drafts, overlap, strict=True) if share >= NEAR]


class Shared(NamedTuple):
    """The place of a test text among those given, the id of the training row that it is most like, and how much, in [0, 1].

    `same` says that nothing but case and white space differs (see `normalise`).
    """

    place: int
    train: str
    alike: float
    same: bool


def shared_rows(texts: Sequence[str], train: Sequence[Example], *, language: str) -> list[Shared]:
    """Return the test texts that are an exact or near duplicate of a training row, in their order.

    Pairs are as similar as the less similar of their halves: one premise with two hypotheses makes two different pairs.
    """
    known: dict[str, Example] = {}
    for example in train:
        known.setdefault(normalise(example.text), example)
    near = _nearest(texts, [example.text for example in train], language)
    found = []
    for place, text in enumerate(texts):
        if (twin := known.get(normalise(text))) is not None:
            found.append(Shared(place, twin.id, 1.0, True))
        elif near.overlap[place] >= NEAR:
            found.append(Shared(place, train[near.place[place]].id, float(near.overlap[place]), False))
    return found


def _nearest(texts: Sequence[str], against: Sequence[str], language: str) -> Nearest:
    halves = [[split_pair(text) for text in some] for some in (texts, against)]
    if not all(pair for some in halves for pair in some):
        return nearest_of([texts], [against], language=language)
    mine, other = ([[pair[side] for pair in some if pair] for side in (0, 1)] for some in halves)
    return nearest_of(mine, other, language=language)
