"""The report's section on calibration and abstention. Knows nothing of how it is shown, or how the model was calibrated.

A frozen dataclass of plain values, as in `sections`; the constructors compute it from arrays of N rows and K labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Required, Self, TypedDict, Unpack

import numpy as np

from refsynth.core.intervals import clusters, mean_interval
from refsynth.core.types import BoolArray, FloatArray, IntArray, Metric
from refsynth.evaluation.calibration import Threshold, rule_of
from refsynth.evaluation.sections import Source
from refsynth.evaluation.wording import WORDING, Over, Wording
from refsynth.kinds.metrics import (
    ReliabilityBin,
    RiskCoverage,
    brier,
    calibration_error,
    distance,
    log_loss,
    reliability,
    reliability_of,
    risk_coverage_of,
)

CURVE_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdChoice:
    """The effect of a threshold for another target accuracy on held-out rows.

    Attributes:
        target: the accuracy asked for on the answered rows.
        threshold: fitted on all held-out rows.
        reached: whether the target was reached on them with at least half of them answered.
        answered: cross-fitted share of rows answered.
        accuracy: cross-fitted accuracy on the answered rows; None if there are none.
    """

    target: float
    threshold: float
    reached: bool
    answered: Metric
    accuracy: Metric | None


class CalibrationFields(TypedDict, total=False):
    """Arguments of the constructors besides probabilities and truth; those not listed are as in `CalibrationReport`.

    Attributes:
        uncalibrated: the probabilities at temperature 1.
        unsure: rows that are not answered [N], if no single `threshold` decides, as with two tiers.
        groups: group numbers of near-duplicate rows [N].
    """

    threshold: Required[Threshold | None]
    source: Required[Source]
    temperature: float | None
    uncalibrated: FloatArray | None
    unsure: BoolArray | None
    groups: IntArray | None
    left_out: int
    how: str
    choices: tuple[ThresholdChoice, ...]
    none: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationReport:
    """The calibration of the shipped model, and the effect of abstaining.

    In multi-label tasks, an answer is right if it has exactly the right labels; the errors, `brier`, `log_loss` and `bins` are
    over decisions, one for each row and label, and a bin's confidence is the probability of the label. In token classification
    they are over the predicted spans.

    Attributes:
        temperature: None if no labeled rows chose the threshold, or there are several.
        error_before: expected calibration error without temperature.
        error: expected calibration error with it.
        brier: Brier score, in [0, 2].
        log_loss: in nats.
        threshold: None where `temperature` is; else how it was chosen, on rows of its own.
        answered: share of the `n` rows at or above the threshold.
        accuracy: accuracy on these rows; None if there are none.
        decisions: number of decisions, if these are not rows.
        over: what the decisions are: rows, labels or spans.
        left_out: number of held-out rows that chose neither temperature nor threshold: the model had not seen their label, or
            not read all their words.
        how: where the thresholds come from, in a sentence or two, if `threshold` is None.
        choices: the effect of thresholds for other accuracies on held-out rows.
        none: which texts are marked as having none of the labels; empty if the shipped model cannot tell.
    """

    temperature: float | None
    error_before: float | None
    error: float
    brier: float
    log_loss: float
    bins: tuple[ReliabilityBin, ...]
    curve: tuple[RiskCoverage, ...]
    threshold: Threshold | None
    answered: Metric
    accuracy: Metric | None
    source: Source
    n: int
    decisions: int | None = None
    over: Over = "rows"
    left_out: int = 0
    how: str = ""
    choices: tuple[ThresholdChoice, ...] = ()
    none: str = ""

    @property
    def rule(self) -> str:
        """How the threshold was chosen, as a sentence; else `how`."""
        if self.threshold is None:
            return self.how
        right = "right" if self.over == "rows" else "just right"
        return rule_of(self.threshold).sentence(self.threshold.threshold, right=right)

    @property
    def words(self) -> Wording:
        """The words for its decisions."""
        return WORDING[self.over]

    @classmethod
    def of(cls, truth: IntArray, probabilities: FloatArray, **fields: Unpack[CalibrationFields]) -> Self:
        """Measure probabilities [N, K] against labels [N]."""
        uncalibrated = fields.get("uncalibrated")
        return cls(
            error_before=None if uncalibrated is None else calibration_error(truth, uncalibrated),
            error=calibration_error(truth, probabilities),
            brier=brier(truth, probabilities),
            log_loss=log_loss(truth, probabilities),
            bins=tuple(reliability(truth, probabilities, fields.get("groups"))),
            n=len(truth),
            **_answered(probabilities.argmax(1) == truth, probabilities.max(1), fields),
        )

    @classmethod
    def of_marks(
        cls,
        truth: IntArray,
        probabilities: FloatArray,
        *,
        right: IntArray,
        confidence: FloatArray,
        by_row: IntArray,
        over: Over = "labels",
        **fields: Unpack[CalibrationFields],
    ) -> Self:
        """Measure the probabilities of binary decisions.

        Decisions of one row, or of rows of one group, are not independent.

        Args:
            truth: the outcomes, 0 or 1: of all rows and labels [N, K], or of the predicted spans [M].
            probabilities: of the decisions, in the same shape.
            right: whether the whole answer to a row is right [N].
            confidence: of the whole answer [N].
            by_row: the number of decisions of each row [N].
            over: what the decisions are.
            fields: see `CalibrationFields`.
        """
        marks, flat, uncalibrated = truth.ravel(), probabilities.ravel(), fields.get("uncalibrated")
        both = np.stack([1 - flat, flat], 1)
        bins = reliability_of(flat, marks, np.repeat(clusters(fields.get("groups"), len(right)), by_row))
        return cls(
            error_before=None if uncalibrated is None else distance(reliability_of(uncalibrated.ravel(), marks)),
            error=distance(bins),
            brier=brier(marks, both),
            log_loss=log_loss(marks, both),
            bins=tuple(bins),
            n=len(right),
            decisions=truth.size,
            over=over,
            **_answered(right, confidence, fields),
        )


def _answered(right: BoolArray | IntArray, confidence: FloatArray, fields: CalibrationFields) -> dict[str, Any]:
    """Return the risk-coverage curve and the figures on answered rows, with the other fields."""
    curve = risk_coverage_of(confidence, right)
    unsure, groups, threshold = fields.get("unsure"), fields.get("groups"), fields["threshold"]
    if unsure is None:
        assert threshold is not None
        unsure = confidence < threshold.threshold
    answered = ~unsure
    picked = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), CURVE_POINTS)).astype(int))
    kept = {name: value for name, value in fields.items() if name not in ("uncalibrated", "unsure", "groups")}
    accuracy = mean_interval("accuracy", right[answered], clusters(groups, len(right))[answered]) if answered.any() else None
    return {
        "temperature": 1.0,
        **kept,
        "curve": tuple(curve[i] for i in picked),
        "answered": mean_interval("answered", answered, groups),
        "accuracy": accuracy,
    }
