"""The reward of a draft: what it does to the loss on held-out real rows, and the advantage over its siblings."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.types import FloatArray, IntArray

CLIP = 2.0
"""Standard deviations: one draft in a batch must not decide its direction."""

FAULT = -2.0
"""Reward of a text that copies a seed row, is malformed, or belongs to another class, whatever its influence."""


class Scale(NamedTuple):
    """Mean and deviation of the gains of a first batch: rewards on one scale can be compared from batch to batch."""

    mean: float
    spread: float

    @classmethod
    def of(cls, gains: FloatArray, faulty: NDArray[np.bool_]) -> Scale:
        """Measure the sound drafts of a batch [M]; the gains of drafts that nobody could judge are NaN."""
        known = gains[np.isfinite(gains) & ~faulty]
        return cls(float(known.mean()), float(known.std()) or 1.0) if len(known) else cls(0.0, 1.0)


def rewards(gains: FloatArray, faulty: NDArray[np.bool_], scale: Scale) -> FloatArray:
    """Return rewards [M]: the gains of sound drafts on a scale, clipped; `FAULT` for the others.

    Args:
        gains: influence of each draft on held-out loss [M]; where it is unknown (NaN) the reward is 0.
        faulty: drafts that are worth nothing [M].
        scale: of the gains.
    """
    standard = np.nan_to_num((gains - scale.mean) / scale.spread, nan=0.0)
    return np.asarray(np.where(faulty, FAULT, np.clip(standard, -CLIP, CLIP)))


def advantages(rewards: FloatArray, groups: IntArray) -> FloatArray:
    """Return each reward less the mean of the others of its group [M]: the leave-one-out baseline.

    RLOO, Ahmadian et al. (2024), "Back to Basics", eq. 6: unbiased, because a text's own reward is no part of its baseline. A
    text that is alone in its group has no baseline and no advantage.

    Args:
        rewards: of the texts [M].
        groups: the prompt of each text [M].
    """
    result = np.zeros(len(rewards))
    for mine in _groups(groups):
        if len(mine) > 1:
            others = (rewards[mine].sum() - rewards[mine]) / (len(mine) - 1)
            result[mine] = rewards[mine] - others
    return result


def telling(rewards: FloatArray, groups: IntArray) -> IntArray:
    """Return the rows of half of each group, rounded up, whose rewards differ most: those of largest variance, in order.

    Of two and three texts it is two, since one alone says nothing.

    Max-variance down-sampling (Xu et al., 2025, "Not All Rollouts are Useful", arXiv:2504.13818): writing is cheap beside
    learning, and what is neither good nor bad for its prompt says little. Such a half is always some of the best and some of the
    worst, so that as many halves are compared as it has members, and one more. Advantages are to be taken within it: those over
    all siblings would not add up to nothing, and push up or down whatever was written.

    Args:
        rewards: of the texts [M].
        groups: the prompt of each text [M].
    """
    kept: list[int] = []
    for mine in _groups(groups):
        ranked = mine[np.argsort(rewards[mine], kind="stable")]
        size = half_of(len(mine))
        halves = [np.concatenate([ranked[:low], ranked[len(ranked) - (size - low) :]]) for low in range(size + 1)]
        kept += max(halves, key=lambda half: float(rewards[half].var())).tolist()
    return np.array(sorted(kept), int)


def half_of(size: int) -> int:
    """Return how many of a group of this size are learnt from by `rloo`."""
    return min(size, max(2, -(-size // 2)))


class Learnt(NamedTuple):
    """The rows of a turn that are learnt from [m], and what each is worth: the factor of its log-likelihood [m]."""

    rows: IntArray
    worth: FloatArray


def rloo(rewards: FloatArray, groups: IntArray) -> Learnt:
    """Return the half of each group that tells most, with its advantages: policy gradient.

    Args:
        rewards: of the texts [M].
        groups: the prompt of each text [M].
    """
    rows = telling(rewards, groups)
    return Learnt(rows, advantages(rewards[rows], groups[rows]))


def raft(rewards: FloatArray, groups: IntArray) -> Learnt:
    """Return the best text of each group, unless all are alike: it is imitated.

    Reward-ranked fine-tuning (Dong et al., 2023, "RAFT", arXiv:2304.06767, algorithm 1), with the best of each prompt.

    Args:
        rewards: of the texts [M].
        groups: the prompt of each text [M].
    """
    best = [mine[rewards[mine].argmax()] for mine in _groups(groups) if np.ptp(rewards[mine])]
    return Learnt(np.array(best, int), np.ones(len(best)))


def _groups(groups: IntArray) -> list[IntArray]:
    return [np.flatnonzero(groups == group) for group in np.unique(groups)]
