"""The reward of a draft: what it does to the loss on held-out real rows, and the advantage over its siblings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refsynth.core.types import FloatArray, IntArray

CLIP = 2.0
"""Standard deviations: one draft in a batch must not decide its direction."""

FAULT = -2.0
"""Reward of a text that copies a seed row, is malformed, or belongs to another class, whatever its influence."""


def standardise(gains: FloatArray, faulty: NDArray[np.bool_]) -> FloatArray:
    """Return rewards [M]: the gains of sound drafts with mean 0 and deviation 1, clipped; `FAULT` for the others.

    Args:
        gains: influence of each draft on held-out loss [M]; where it is unknown (NaN) the reward is that of the mean.
        faulty: drafts that are worth nothing [M].
    """
    known = np.isfinite(gains) & ~faulty
    rewards = np.zeros(len(gains))
    if known.any():
        spread = float(gains[known].std()) or 1.0
        rewards[known] = np.clip((gains[known] - gains[known].mean()) / spread, -CLIP, CLIP)
    rewards[faulty] = FAULT
    return rewards


def advantages(rewards: FloatArray, groups: IntArray) -> FloatArray:
    """Return each reward less the mean of the others of its group [M]: the leave-one-out baseline.

    RLOO, Ahmadian et al. (2024), "Back to Basics", eq. 6: unbiased, because a text's own reward is no part of its baseline. A
    text that is alone in its group has no baseline and no advantage.

    Args:
        rewards: of the texts [M].
        groups: the prompt of each text [M].
    """
    result = np.zeros(len(rewards))
    for group in np.unique(groups):
        mine = np.flatnonzero(groups == group)
        if len(mine) > 1:
            others = (rewards[mine].sum() - rewards[mine]) / (len(mine) - 1)
            result[mine] = rewards[mine] - others
    return result
