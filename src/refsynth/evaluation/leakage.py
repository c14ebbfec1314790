"""The leakage guard: finds drafts and training rows that resemble rows of the test file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from refsynth.core.pair import split_pair
from refsynth.core.types import Example
from refsynth.data.text import NEAR, Nearest, nearest_of, nearest_overlap, normalize

LEAKED = "resembles a test row"
"""The reason for which such a draft is dropped."""


def leaked(drafts: Sequence[Example], test_texts: Sequence[str]) -> list[str]:
    """Return the ids of the drafts that are exact or near duplicates of a test text."""
    overlap = nearest_overlap([draft.text for draft in drafts], test_texts)
    return [draft.id for draft, share in zip(drafts, overlap, strict=True) if share >= NEAR]


class Shared(NamedTuple):
    """A test text that resembles a training row.

    Attributes:
        place: its position among the test texts.
        train: the id of the most similar training row.
        alike: their similarity, in [0, 1].
        same: whether they differ only in case and white space (see `normalize`).
    """

    place: int
    train: str
    alike: float
    same: bool


def shared_rows(texts: Sequence[str], train: Sequence[Example], *, language: str) -> list[Shared]:
    """Return the test texts that are exact or near duplicates of a training row, in their order.

    Pairs are as similar as their less similar halves: one premise with two hypotheses makes two different pairs.
    """
    known: dict[str, Example] = {}
    for example in train:
        known.setdefault(normalize(example.text), example)
    near = _nearest(texts, [example.text for example in train], language)
    shared = []
    for place, text in enumerate(texts):
        if (twin := known.get(normalize(text))) is not None:
            shared.append(Shared(place, twin.id, 1.0, True))
        elif near.overlap[place] >= NEAR:
            shared.append(Shared(place, train[near.place[place]].id, float(near.overlap[place]), False))
    return shared


def _nearest(texts: Sequence[str], against: Sequence[str], language: str) -> Nearest:
    pairs = [[split_pair(text) for text in column] for column in (texts, against)]
    if not all(pair for column in pairs for pair in column):
        return nearest_of([texts], [against], language=language)
    halves, others = ([[pair[side] for pair in column if pair] for side in (0, 1)] for column in pairs)
    return nearest_of(halves, others, language=language)
