"""What a bundle's manifest says of its probabilities: how they were calibrated, and when a tier before the last may answer."""

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
"""Where the distribution of how sure a first tier is, is looked at: evenly spaced in log-odds."""

LENGTHS = 2.0 ** np.arange(3, 17)
"""Where the distribution of the length of texts is looked at, in characters."""

PROFILE = len(KNOTS) + len(LENGTHS)
"""Points at which the texts of a certificate are known, Q."""

Confidence = Literal["probability", "odds", "answer"]
"""Of one label its probability, or the odds of it against the next as a share of both; of others that of the whole answer."""


class ManifestPart(BaseModel):
    """A part of the manifest: immutable, and exactly what it says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Calibration(ManifestPart):
    """Probabilities are softmax(logits / temperature); below `threshold` the model abstains.

    Where a text may have any number of labels they are sigmoids, and a label is said from its own of the `thresholds` on. `risk`
    and `coverage` are the error among the answered and the share answered of held-out rows, each with a temperature and threshold
    that were chosen the same way on the other folds.
    """

    temperature: float = Field(default=1.0, gt=0)
    threshold: float = Field(default=0.0, ge=0, le=1)
    risk: float | None = Field(default=None, ge=0, le=1)
    coverage: float | None = Field(default=None, ge=0, le=1)
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()

    @property
    def label_thresholds(self) -> FloatArray | None:
        """The thresholds [K]."""
        return np.array(self.thresholds) if self.thresholds else None


class Certificate(ManifestPart):
    """What was shown of the first tier of a cascade, by Learn-then-Test on unlabelled texts that neither tier was trained on.

    With probability 1 - `delta` over the draw of the `n` texts, at most the share `alpha` of texts drawn like them is answered
    otherwise than the second tier would. Of the `n` the first tier answered `answered`, `disagreed` of them otherwise;
    `profile` is that of the texts, see `profile_of`.
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
        """Return whether `n` later texts of such a profile are drawn otherwise: the certificate is void.

        How sure the first tier was, or how long the texts are, is then distributed otherwise than chance gives 99 times of 100:
        by Hoeffding's bound on the difference of two shares, for all Q together. What leaves both as they were is not seen.
        """
        if not n:
            return False
        apart = np.abs(np.asarray(profile) / n - np.array(self.profile) / self.n).max()
        return bool(apart > math.sqrt(math.log(2 * len(profile) / VOID_LEVEL) / 2 * (1 / self.n + 1 / n)))


def profile_of(sure: FloatArray, texts: Sequence[str]) -> IntArray:
    """Return how many of N texts are below each of Q points [Q].

    These are the `KNOTS` of how sure the first tier was of each text [N], and the `LENGTHS`.
    """
    lengths = np.fromiter(map(len, texts), int, len(texts))
    return np.concatenate([(np.asarray(sure)[:, None] < KNOTS).sum(0), (lengths[:, None] < LENGTHS).sum(0)])


class EarlyExit(ManifestPart):
    """When a tier that is not the last answers: where its confidence is at least `threshold`. It passes the others on."""

    threshold: float = Field(ge=0, le=1)
    confidence: Confidence = "probability"
    certificate: Certificate


def sureness(confidence: Confidence, probabilities: Array, certainty: FloatArray) -> FloatArray:
    """Return how sure the first tier is of each answer [N], by calibrated probabilities and those of its answers [N]."""
    return lead_of(probabilities) if confidence == "odds" else certainty
