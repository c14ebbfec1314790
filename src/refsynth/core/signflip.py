"""Is one way better than another on the same rows? The sign-flip test of paired differences, for several pairs at once."""

from __future__ import annotations

from itertools import product

import numpy as np

from refsynth.core.types import FloatArray, IntArray

FLIPS = 9_999
"""Random flips, where there are too many to go through."""

MOST_EXACT = 12
"""Groups up to which all flips are gone through: 2^12 of them."""


def sign_flip(differences: FloatArray, groups: IntArray, *, seed: int = 0) -> FloatArray:
    """Return for each of L ways the probability of a gain like its own, or a larger one, where none of them brings any [L].

    If a way has no effect, the difference of each row might as well have the other sign. So all differences are flipped at
    random, those of a group of near-duplicates together, and the same way for all L. A way's probability is the share of flips
    in which the best of the L comes out at least as high as the way did (Westfall and Young, 1993, single-step maxT): that the
    best of several is looked at is paid for. Ways are compared by sum(d) / sqrt(sum(d^2)) over groups; flips leave the
    denominator as it is.

    Args:
        differences: of each way and row [L, N], positive where the way is better than what it is compared with.
        groups: the group of each row [N].
        seed: of random flips; all flips are gone through where there are few groups with a difference.

    Raises:
        ValueError: a difference is not finite: no sum over flips would be a number.
    """
    if not np.isfinite(differences).all():
        raise ValueError("some differences are not finite numbers")
    of_group = np.unique(groups, return_inverse=True)[1]
    sums = np.stack([np.bincount(of_group, weights=each) for each in np.asarray(differences, float)])
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
