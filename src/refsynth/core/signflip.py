"""The sign-flip test of paired differences: is one way better than another on the same rows? For several ways at once."""

from __future__ import annotations

from itertools import product

import numpy as np

from refsynth.core.types import FloatArray, IntArray

FLIPS = 9_999  # random flips, if there are too many to enumerate
MOST_EXACT = 12  # groups for which all flips, 2^12 of them, are enumerated, at most


def sign_flip(differences: FloatArray, groups: IntArray, *, seed: int = 0) -> FloatArray:
    """Return for each of L ways the probability of a gain at least as large as its own if no way has an effect [L].

    If a way has no effect, the difference of each row might as well have the other sign. So all differences are flipped at
    random, those of a group of near-duplicates together, and in the same way for all L. A way's probability is the share of
    flips in which the best of the L does at least as well as the way did (Westfall and Young, 1993, single-step maxT), which
    corrects for looking at the best of several. Ways are compared by sum(d) / sqrt(sum(d^2)) over groups; flips do not change
    the denominator.

    Args:
        differences: of each way and row [L, N], positive if the way is better than what it is compared with.
        groups: the group of each row [N].
        seed: of random flips; with few groups that differ, all flips are enumerated.

    Raises:
        ValueError: a difference is not finite, so no sum over flips would be a number.
    """
    if not np.isfinite(differences).all():
        raise ValueError("some differences are not finite numbers")
    of_group = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(of_group, weights=row) for row in np.asarray(differences, float)])
    sums = sums[:, (np.abs(sums) > 1e-12).any(0)]
    if not sums.size:
        return np.ones(len(differences))
    scale = np.sqrt((sums**2).sum(1))
    scale[scale == 0] = np.inf
    observed = sums.sum(1) / scale
    exact = sums.shape[1] <= MOST_EXACT
    if exact:
        signs = np.array(list(product((1, -1), repeat=sums.shape[1])), float)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), (FLIPS, sums.shape[1]))
    best = ((signs @ sums.T) / scale).max(1)
    as_high = (best[:, None] >= observed - 1e-9).sum(0)
    return np.asarray(as_high / len(signs) if exact else (as_high + 1) / (len(signs) + 1))
