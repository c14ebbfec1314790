"""The reward of a draft, from its effect on the loss of held-out real rows, and its advantage within the group of its prompt."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.types import FloatArray, IntArray

CLIP = 2.0
"""In standard deviations: a single draft must not decide the direction of a step."""

FAULT = -2.0
"""Reward of a text that copies a seed row, is malformed or belongs to another class, whatever its influence."""


class Scale(NamedTuple):
    """Mean and standard deviation of the gains of the first batch. One scale makes the rewards of batches comparable."""

    mean: float
    spread: float

    @classmethod
    def of(cls, gains: FloatArray, faulty: NDArray[np.bool_]) -> Scale:
        """Return the scale of the known gains of a batch [M], without faulty drafts."""
        known = gains[np.isfinite(gains) & ~faulty]
        return cls(float(known.mean()), float(known.std()) or 1.0) if len(known) else cls(0.0, 1.0)


def rewards(gains: FloatArray, faulty: NDArray[np.bool_], scale: Scale) -> FloatArray:
    """Return rewards [M]: the gains on the scale, clipped; `FAULT` for faulty drafts.

    Args:
        gains: influence of each draft on held-out loss [M]; an unknown gain (NaN) has the reward 0.
        faulty: unusable drafts [M].
        scale: of the gains.
    """
    standard = np.nan_to_num((gains - scale.mean) / scale.spread, nan=0.0)
    return np.asarray(np.where(faulty, FAULT, np.clip(standard, -CLIP, CLIP)))


def advantages(rewards: FloatArray, groups: IntArray) -> FloatArray:
    """Return each reward minus the mean of the others in its group [M]: the leave-one-out baseline.

    RLOO, Ahmadian et al. (2024), "Back to Basics", eq. 6: unbiased, because a text's own reward is not part of its baseline. A
    text that is alone in its group has advantage 0.

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


def most_varied(rewards: FloatArray, groups: IntArray) -> IntArray:
    """Return, in order, the rows of the half of each group whose rewards have the largest variance.

    Halves are rounded up; of two or three texts two are taken, since one alone has no advantage.

    Max-variance down-sampling (Xu et al., 2025, "Not All Rollouts are Useful", arXiv:2504.13818): writing is cheap compared with
    learning, and a text of medium reward contributes little. The half of largest variance always consists of some of the best and
    some of the worst texts, so for a half of n texts only n + 1 candidates are compared. Take advantages within the half:
    advantages over the whole group would not sum to zero and would push all likelihoods in one direction.

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
    """Return how many texts of a group of this size `rloo` learns from."""
    return min(size, max(2, -(-size // 2)))


class UpdateRows(NamedTuple):
    """The rows of a turn that a policy learns from [m], and the factor of each row's log-likelihood [m]."""

    rows: IntArray
    weights: FloatArray


def rloo(rewards: FloatArray, groups: IntArray) -> UpdateRows:
    """Return the most varied half of each group with its advantages, for policy gradient; arguments as in `advantages`."""
    rows = most_varied(rewards, groups)
    return UpdateRows(rows, advantages(rewards[rows], groups[rows]))


def raft(rewards: FloatArray, groups: IntArray) -> UpdateRows:
    """Return the best text of each group with weight 1; none from a group of equal rewards. Arguments as in `advantages`.

    Reward-ranked fine-tuning (Dong et al., 2023, "RAFT", arXiv:2304.06767, algorithm 1), with the best of each prompt.
    """
    best = [mine[rewards[mine].argmax()] for mine in _groups(groups) if np.ptp(rewards[mine])]
    return UpdateRows(np.array(best, int), np.ones(len(best)))


def _groups(groups: IntArray) -> list[IntArray]:
    return [np.flatnonzero(groups == group) for group in np.unique(groups)]
