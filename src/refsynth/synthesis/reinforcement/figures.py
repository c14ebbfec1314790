"""The figures of a turn of reinforcement, for any policy, and what was measured of the texts that it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.types import Completion, FloatArray, Prompt


class PromptedCompletion(NamedTuple):
    """A completion and its prompt."""

    prompt: Prompt
    completion: Completion


class Measured(NamedTuple):
    """What was measured of M texts; rewards follow from it, see `reward.rewards`.

    Attributes:
        gains: on held-out loss, in nats per unit of weight [M]; NaN if unknown.
        faulty: which texts are unusable [M].
        distinct_2: share of distinct word pairs in the others.
    """

    gains: FloatArray
    faulty: NDArray[np.bool_]
    distinct_2: float

    @property
    def gain(self) -> float:
        """The mean of the known gains of texts without fault; 0 if there is none."""
        known = self.gains[~self.faulty & np.isfinite(self.gains)]
        return float(known.mean()) if len(known) else 0.0


Measure = Callable[[Sequence[PromptedCompletion]], Measured]
"""Measures what rewards follow from, such as a `Rewarder`."""


@dataclass(frozen=True)
class Figures:
    """The figures of a turn.

    Attributes:
        turn: from 0.
        reward: mean, on the scale of the first turn.
        gain: mean over texts without fault, in nats of held-out loss per unit of weight.
        faulty: share of unusable texts.
        distinct_2: share of distinct word pairs.
        texts: number of texts written.
        seconds: wall time.
        kl: divergence from the reference after the turn, in nats per token, if the policy is a model. It is measured on texts of
            the turn that the policy has not learned from, if there are any.
        log_likelihood: mean log P per token, in nats, if the policy is a model.
    """

    turn: int
    reward: float
    gain: float
    faulty: float
    distinct_2: float
    texts: int
    seconds: float
    kl: float | None = None
    log_likelihood: float | None = None
