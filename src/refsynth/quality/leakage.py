"""The leakage guard: training rows that resemble rows of the test file."""

from __future__ import annotations

from collections.abc import Sequence

from refsynth.core.types import Example
from refsynth.data.text import nearest_overlap
from refsynth.quality.filter import NEAR


def leaked(drafts: Sequence[Example], test_texts: Sequence[str]) -> list[str]:
    """Return the ids of the drafts that are an exact or near duplicate of a test text."""
    overlap = nearest_overlap([draft.text for draft in drafts], test_texts)
    return [draft.id for draft, share in zip(drafts, overlap, strict=True) if share >= NEAR]
