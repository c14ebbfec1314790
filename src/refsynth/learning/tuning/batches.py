"""Batches of similar length in random order, since padding costs time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refsynth.core.types import IntArray

WINDOW = 32
"""Batches whose rows are sorted by length together: enough for similar lengths, few enough to keep the rows mixed."""


def in_passes(rows: IntArray, passes: int) -> list[IntArray]:
    """Return the rows of a step in at most `passes` parts, none of them empty."""
    return np.array_split(rows, min(passes, len(rows))) if len(rows) else []


def bucketed(lengths: Sequence[int], *, size: int, seed: int) -> list[IntArray]:
    """Return batches of row numbers that cover all rows once. The rows of a window of random rows are batched by length.

    Args:
        lengths: tokens of each row [N].
        size: rows of a batch; the last batch of the last window may have fewer.
        seed: seed of the order.
    """
    rng = np.random.default_rng(seed)
    order, tokens = rng.permutation(len(lengths)), np.asarray(lengths)
    batches = []
    for start in range(0, len(order), WINDOW * size):
        window = order[start : start + WINDOW * size]
        window = window[np.argsort(tokens[window], kind="stable")]
        batches += [window[first : first + size] for first in range(0, len(window), size)]
    return [batches[place] for place in rng.permutation(len(batches))]
