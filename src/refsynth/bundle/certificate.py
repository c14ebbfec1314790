"""What a bundle's manifest says of its probabilities: how they were calibrated, and when the first of two tiers may answer."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from refsynth.core.types import Array, FloatArray, IntArray
from refsynth.metrics import lead_of

VOID_LEVEL = 0.01
KNOTS = 1 / (1 + np.exp(-np.linspace(-4.0, 9.0, 27)))
"""Where the distribution of how sure a first tier is, is looked at: evenly spaced in log-odds."""

Confidence = Literal["probability", "odds", "answer"]
"""Of one label its probability, or the odds of it against the next as a share of both; of others that of the whole answer."""


class Part(BaseModel):
    """A part of the manifest: immutable, and exactly what it says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Calibration(Part):
    """Probabilities are softmax(logits / temperature); below `threshold` the model abstains.

    Where a text may have any number of labels they are sigmoids, and a label is said from its own of the `thresholds` on. `risk`
    and `coverage` are the error among the answered and the share answered that were measured at this threshold.
    """

    temperature: float = Field(default=1.0, gt=0)
    threshold: float = Field(default=0.0, ge=0, le=1)
    risk: float | None = Field(default=None, ge=0, le=1)
    coverage: float | None = Field(default=None, ge=0, le=1)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()

    @property
    def cuts(self) -> FloatArray | None:
        """The thresholds [K]."""
        return np.array(self.thresholds) if self.thresholds else None


class Certificate(Part):
    """What was shown of the first tier of a cascade, by Learn-then-Test on unlabelled texts that neither tier had seen.

    With probability 1 - `delta` over the draw of the `n` texts, at most the share `alpha` of texts drawn like them is answered
    otherwise than the second tier would. Of the `n` the first tier answered `answered`, `disagreed` of them otherwise;
    of so many as are `below` it was less sure than each of the `KNOTS`.
    """

    alpha: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    n: int = Field(ge=1)
    answered: int = Field(ge=0)
    disagreed: int = Field(ge=0)
    below: tuple[Annotated[int, Field(ge=0)], ...]
    assumptions: tuple[str, ...]

    @field_validator("below")
    @classmethod
    def _complete(cls, below: tuple[int, ...]) -> tuple[int, ...]:
        if len(below) != len(KNOTS):
            raise ValueError(f"{len(below)} counts of how sure the first tier was, not {len(KNOTS)}")
        return below

    @property
    def share(self) -> float:
        """The share of texts that the first tier is expected to answer."""
        return self.answered / self.n

    def shifted(self, below: IntArray, n: int) -> bool:
        """Return whether `n` later texts, so many `below` each of the knots, are drawn otherwise: the certificate is void.

        How sure the first tier was is then distributed otherwise than chance gives 99 times of 100, at one of the knots: by
        Hoeffding's bound on the difference of two shares, for all knots together. A shift that leaves it as it was goes unseen.
        """
        if not n:
            return False
        apart = np.abs(np.asarray(below) / n - np.array(self.below) / self.n).max()
        return bool(apart > math.sqrt(math.log(2 * len(KNOTS) / VOID_LEVEL) / 2 * (1 / self.n + 1 / n)))


def below_knots(sure: FloatArray) -> IntArray:
    """Return of how many texts the first tier was less sure than each of the Q knots [Q], by how sure it was of each [N]."""
    return np.asarray((np.asarray(sure)[:, None] < KNOTS).sum(0))


class FirstTier(Part):
    """The static tier of a cascade: it answers where its confidence is at least `threshold`, and passes the others on."""

    threshold: float = Field(ge=0, le=1)
    confidence: Confidence = "probability"
    calibration: Calibration
    certificate: Certificate


def sureness(confidence: Confidence, probabilities: Array, certainty: FloatArray) -> FloatArray:
    """Return how sure the first tier is of each answer [N], by calibrated probabilities and those of its answers [N]."""
    return lead_of(probabilities) if confidence == "odds" else certainty
