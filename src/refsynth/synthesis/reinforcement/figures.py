"""What a turn of reinforcement came to, whichever policy takes it, and who judges what it wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.core.types import Completion, FloatArray, Prompt


class PromptedCompletion(NamedTuple):
    """A completion with the prompt that it answers."""

    prompt: Prompt
    completion: Completion


class Judged(NamedTuple):
    """What a judge says of texts: gains on held-out loss [M], NaN where unknown; and which are worth nothing [M]."""

    gains: FloatArray
    faulty: NDArray[np.bool_]
    distinct_2: float

    @property
    def gain(self) -> float:
        """The mean gain of the sound texts that could be judged; 0 where there is none."""
        known = self.gains[~self.faulty & np.isfinite(self.gains)]
        return float(known.mean()) if len(known) else 0.0


Judge = Callable[[Sequence[PromptedCompletion]], Judged]


@dataclass(frozen=True)
class Figures:
    """A turn in numbers.

    Attributes:
        turn: from 0.
        reward: mean, on the scale of the first turn.
        gain: mean over sound texts, in nats of held-out loss per unit of weight.
        faulty: share of texts that are worth nothing.
        distinct_2: share of distinct word pairs.
        texts: how many were written.
        seconds: wall time.
        kl: divergence from the reference per token after the turn, in nats, of a policy that is a model; of texts of the turn
            that it has not learnt from, if there are any.
        log_likelihood: mean log P per token, in nats, of a policy that is a model.
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
