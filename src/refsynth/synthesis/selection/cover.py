"""Which rows stand best for all rows: greedy facility location on embeddings.

F(S) = sum_i max_{j in S} s(i, j), over rows i and chosen rows j, with s = 1 + cosine: how near each row is to the nearest that is
kept. F is monotone and submodular: choosing n rows greedily reaches at least 1 - 1/e of the best choice (Nemhauser et al., 1978),
and a row's gain only ever falls, so that one computed in an earlier turn is a bound, and only rows with the highest bounds are
computed anew (lazy greedy, Minoux, 1978). Similarities are computed when they are needed: memory is linear in the rows.
"""

from __future__ import annotations

import numpy as np

from refsynth.core.types import FloatArray, IntArray

BLOCK = 16
"""Rows whose gain is computed at once: reading the embeddings is what takes the time."""


def best_cover(features: FloatArray, chosen: FloatArray, n: int) -> IntArray:
    """Return the indices [n] of the rows that cover all rows best together with what is chosen already, the most needed first.

    Args:
        features: embeddings of unit length [N, D], N >= n.
        chosen: embeddings of unit length [M, D].
        n: how many rows to take.
    """
    covered = np.zeros(len(features))
    for row in chosen:
        np.maximum(covered, 1 + features @ row, out=covered)
    size = min(BLOCK, len(features))
    bounds, picked = np.full(len(features), np.inf), np.empty(n, np.intp)
    for turn in range(n):
        stale = bounds.copy()
        while stale[top := int(bounds.argmax())] > -np.inf:  # its bound is of an earlier turn
            block = np.argpartition(stale, -size)[-size:]
            block = block[stale[block] > -np.inf]
            bounds[block] = np.maximum(1 + features[block] @ features.T - covered, 0).sum(1)
            stale[block] = -np.inf
        picked[turn] = top
        np.maximum(covered, 1 + features @ features[top], out=covered)
        bounds[top] = -np.inf
    return picked
