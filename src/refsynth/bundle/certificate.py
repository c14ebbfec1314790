"""The parts of a manifest on probabilities: their calibration, and when a tier before the last may answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from refsynth.core.types import Array, FloatArray, IntArray
from refsynth.kinds.metrics import lead_of

VOID_LEVEL = 0.01
KNOTS = 1 / (1 + np.exp(-np.linspace(-4.0, 9.0, 27)))
"""The points at which a profile has the distribution of the first tier's confidence, evenly spaced in log-odds."""

LENGTHS = 2.0 ** np.arange(3, 17)
"""The points at which a profile has the distribution of text lengths, in characters."""

PROFILE = len(KNOTS) + len(LENGTHS)
"""The number Q of points of a profile."""

Confidence = Literal["probability", "odds", "answer"]
"""The probability p1 of the top label; or p1 / (p1 + p2) of the two top labels; or the probability of the whole answer."""


class ManifestPart(BaseModel):
    """A part of the manifest: immutable, without conversions and unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Calibration(ManifestPart):
    """Temperature and thresholds. Probabilities are softmax(logits / temperature).

    Attributes:
        temperature: divides the logits.
        threshold: the confidence below which the model abstains.
        risk: the error among answered held-out rows, with a temperature and threshold chosen in the same way on the other folds.
        coverage: the share of held-out rows that were answered, measured like `risk`.
        thresholds: the decision threshold of each label [K] where a text may have any number of labels; probabilities are then
            sigmoids. Otherwise empty.
    """

    temperature: float = Field(default=1.0, gt=0)
    threshold: float = Field(default=0.0, ge=0, le=1)
    risk: float | None = Field(default=None, ge=0, le=1)
    coverage: float | None = Field(default=None, ge=0, le=1)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()

    @property
    def label_thresholds(self) -> FloatArray | None:
        """The decision thresholds [K], or None."""
        return np.array(self.thresholds) if self.thresholds else None


class Certificate(ManifestPart):
    """A guarantee for the first tier of a cascade, by Learn-then-Test on unlabeled texts that neither tier was trained on.

    With probability 1 - `delta` over the draw of the `n` texts, at most the share `alpha` of texts drawn like them is answered
    differently than the second tier would. The first tier answered `answered` of the `n` texts, and `disagreed` of these
    differently. `profile` describes the texts, see `profile_of`.
    """

    alpha: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    n: int = Field(ge=1)
    answered: int = Field(ge=0)
    disagreed: int = Field(ge=0)
    profile: tuple[Annotated[int, Field(ge=0)], ...]
    assumptions: tuple[str, ...]

    @field_validator("profile")
    @classmethod
    def _complete(cls, profile: tuple[int, ...]) -> tuple[int, ...]:
        if len(profile) != PROFILE:
            raise ValueError(f"{len(profile)} counts in the profile of the texts, not {len(KNOTS)} and {len(LENGTHS)}")
        return profile

    @property
    def share(self) -> float:
        """The share of texts that the first tier is expected to answer."""
        return self.answered / self.n

    def shifted(self, profile: IntArray, n: int) -> bool:
        """Return whether `n` later texts with this profile [Q] have another distribution, which voids the certificate.

        The test compares the first tier's confidence and the text lengths, at level 0.01 for all Q points together, by
        Hoeffding's bound on the difference of two shares. It misses shifts that leave both distributions unchanged.
        """
        if not n:
            return False
        apart = np.abs(np.asarray(profile) / n - np.array(self.profile) / self.n).max()
        return bool(apart > math.sqrt(math.log(2 * len(profile) / VOID_LEVEL) / 2 * (1 / self.n + 1 / n)))


def profile_of(confidence: FloatArray, texts: Sequence[str]) -> IntArray:
    """Return how many of N texts are below each point [Q]: the `KNOTS` of the first tier's confidence [N], then `LENGTHS`."""
    lengths = np.fromiter(map(len, texts), int, len(texts))
    return np.concatenate([(np.asarray(confidence)[:, None] < KNOTS).sum(0), (lengths[:, None] < LENGTHS).sum(0)])


class EarlyExit(ManifestPart):
    """The rule of a tier before the last: it answers if its confidence is at least `threshold`, else passes the text on."""

    threshold: float = Field(ge=0, le=1)
    confidence: Confidence = "probability"
    certificate: Certificate


def exit_confidence(confidence: Confidence, probabilities: Array, certainty: FloatArray) -> FloatArray:
    """Return the first tier's confidence in each answer [N], from calibrated probabilities and those of its whole answers [N]."""
    return lead_of(probabilities) if confidence == "odds" else certainty
