"""What a bundle's manifest says of its probabilities: how they were calibrated, and when the first of two tiers may answer."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from refsynth.core.types import Array, FloatArray
from refsynth.metrics import lead_of

VOID_LEVEL = 0.01

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
    otherwise than the second tier would. Of the `n` the first tier answered `answered`, `disagreed` of them otherwise.
    """

    alpha: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    n: int = Field(ge=1)
    answered: int = Field(ge=0)
    disagreed: int = Field(ge=0)
    assumptions: tuple[str, ...]

    @property
    def share(self) -> float:
        """The share of texts that the first tier is expected to answer."""
        return self.answered / self.n

    def shifted(self, answered: int, n: int) -> bool:
        """Return whether so many answered of `n` later texts mean that these are drawn otherwise: the certificate is void.

        The two shares differ by more than chance gives 99 times of 100 (Hoeffding's bound of each, at most half of 1% together).
        A shift that leaves the share as it was goes unseen.
        """
        slack = math.sqrt(math.log(2 / VOID_LEVEL) / 2) * math.sqrt(1 / self.n + 1 / max(n, 1))
        return n > 0 and abs(answered / n - self.share) > slack


class FirstTier(Part):
    """The static tier of a cascade: it answers where its confidence is at least `threshold`, and passes the others on."""

    threshold: float = Field(ge=0, le=1)
    confidence: Confidence = "probability"
    calibration: Calibration
    certificate: Certificate

    def passes_on(self, probabilities: Array, certainty: FloatArray) -> NDArray[np.bool_]:
        """Return which texts are for the second tier [N], by calibrated probabilities of the first, and of its answers [N]."""
        return np.asarray(sureness(self.confidence, probabilities, certainty) < self.threshold)


def sureness(confidence: Confidence, probabilities: Array, certainty: FloatArray) -> FloatArray:
    """Return how sure the first tier is of each answer [N], by calibrated probabilities and those of its answers [N]."""
    return lead_of(probabilities) if confidence == "odds" else certainty
