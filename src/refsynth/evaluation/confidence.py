"""The part of a report on how far a model's confidence can be trusted. Knows nothing of how it is shown, or was calibrated.

A frozen dataclass of plain values, as those in `sections`; the constructors compute it from arrays of N rows and K labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Required, Self, TypedDict, Unpack

import numpy as np

from refsynth.bundle.rules import UnsureRule
from refsynth.core.intervals import clusters, mean_interval
from refsynth.core.types import BoolArray, FloatArray, IntArray, Metric
from refsynth.evaluation.calibration import Threshold
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
    """What a threshold for another accuracy would give on held-out rows, each with what suits the other folds.

    `threshold` is the one that all held-out rows suggest; `reached` whether the `target` was reached there with half of them
    answered. `answered` is the share of rows answered, `accuracy` that among them (None if there are none).
    """

    target: float
    threshold: float
    reached: bool
    answered: Metric
    accuracy: Metric | None


class CalibrationFields(TypedDict, total=False):
    """What a calibration is told beside probabilities and truth; the rest is as in `CalibrationReport`.

    `uncalibrated` are the probabilities at temperature 1. `unsure` [N] are the rows not answered where several thresholds say so,
    as with two tiers; without a `threshold` it is needed. Rows of one of the `groups` [N] copy each other.
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
    """How far the shipped model's confidence can be trusted, and what it loses or wins by saying "unsure".

    `error_before` and `error` are the expected calibration error without and with the temperature; `brier` (in [0, 2]) and
    `log_loss` (in nats), with it, weigh being right and being sure together. `answered` is the share of the `n` rows at or above
    the threshold, `accuracy` that among them (None if there are none); `threshold` tells how it was chosen, on rows of its own.
    Where what ships has a threshold that no labeled rows chose, or several, `threshold` and `temperature` are None, and `how`
    says in a sentence or two what they are and where they come from.

    Where a row may have any number of labels, an answer is right if it has just the right ones; the errors, `brier`, `log_loss`
    and `bins` are then over `decisions`, one for each row and label, and a bin's confidence is the probability of the label.
    Where words have labels they are over the spans that were found. `over` says which. `left_out` counts the held-out rows by
    which neither temperature nor threshold was chosen: the model that was asked had not met their label, or not read their words.
    `choices` are what thresholds for other accuracies give on held-out rows. `none` says which texts are marked as about none of
    the labels, empty where what ships cannot tell.
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
        """How the threshold was chosen, or what stands for it, as a sentence."""
        found = self.threshold
        if found is None:
            return self.how
        rule = UnsureRule(accuracy=found.target, rows=found.n, reached=found.basis == "measured")
        return rule.sentence(found.threshold, right="right" if self.over == "rows" else "just right")

    @property
    def words(self) -> Wording:
        """How it is told."""
        return WORDING[self.over]

    @classmethod
    def of(cls, truth: IntArray, probabilities: FloatArray, **told: Unpack[CalibrationFields]) -> Self:
        """Measure probabilities [N, K] against labels [N]."""
        loud = told.get("uncalibrated")
        return cls(
            error_before=None if loud is None else calibration_error(truth, loud),
            error=calibration_error(truth, probabilities),
            brier=brier(truth, probabilities),
            log_loss=log_loss(truth, probabilities),
            bins=tuple(reliability(truth, probabilities, told.get("groups"))),
            n=len(truth),
            **_answered(probabilities.argmax(1) == truth, probabilities.max(1), told),
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
        **told: Unpack[CalibrationFields],
    ) -> Self:
        """Measure probabilities of decisions against what is so, 0 or 1; whole answers are `right` [N] with a `confidence` [N].

        The decisions are those of all rows and labels [N, K], or the spans that were found [M]; `by_row` [N] says how many are of
        each row. Those of one row, or of rows of one of the `groups` [N], are not independent.
        """
        marks, flat, loud = truth.ravel(), probabilities.ravel(), told.get("uncalibrated")
        both = np.stack([1 - flat, flat], 1)
        bins = reliability_of(flat, marks, np.repeat(clusters(told.get("groups"), len(right)), by_row))
        return cls(
            error_before=None if loud is None else distance(reliability_of(loud.ravel(), marks)),
            error=distance(bins),
            brier=brier(marks, both),
            log_loss=log_loss(marks, both),
            bins=tuple(bins),
            n=len(right),
            decisions=truth.size,
            over=over,
            **_answered(right, confidence, told),
        )


def _answered(right: BoolArray | IntArray, confidence: FloatArray, told: CalibrationFields) -> dict[str, Any]:
    """Return what becomes of answers that are right or wrong [N] at each confidence, and of those that are given."""
    curve = risk_coverage_of(confidence, right)
    unsure, groups, threshold = told.get("unsure"), told.get("groups"), told["threshold"]
    if unsure is None:
        assert threshold is not None
        unsure = confidence < threshold.threshold
    sure = ~unsure
    picked = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), CURVE_POINTS)).astype(int))
    kept = {name: value for name, value in told.items() if name not in ("uncalibrated", "unsure", "groups")}
    return {
        "temperature": 1.0,
        **kept,
        "curve": tuple(curve[i] for i in picked),
        "answered": mean_interval("answered", sure, groups),
        "accuracy": mean_interval("accuracy", right[sure], clusters(groups, len(right))[sure]) if sure.any() else None,
    }
