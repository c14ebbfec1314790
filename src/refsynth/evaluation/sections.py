"""The parts of a report: frozen dataclasses of plain values, one class a section. Knows nothing of how they are shown.

Shares, accuracies and scores are in [0, 1] and gains are differences of those; sizes are in MB (10^6 bytes); times are in the
unit that the field's name ends with. The `of` constructors compute a section from arrays of N rows and K labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from refsynth.core.types import FloatArray, IntArray, Metric
from refsynth.evaluation.calibration import Threshold
from refsynth.metrics import (
    ReliabilityBin,
    RiskCoverage,
    accuracy_interval,
    brier,
    calibration_error,
    confusion,
    log_loss,
    per_class,
    reliability,
    risk_coverage,
    wilson,
)

Source = Literal["test file", "cross-validation"]
CURVE_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A line of the results table; speed is of a batch on this machine's CPU. `detail` says in a few words what it is."""

    name: str
    detail: str = ""
    accuracy: Metric | None = None
    macro_f1: Metric | None = None
    texts_per_second: float | None = None
    size_mb: float | None = None
    shipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Systems side by side on the same `n` rows: of the test file named `file`, or of all folds when each was held out."""

    systems: tuple[System, ...]
    source: Source
    n: int
    file: str = ""

    @property
    def shipped(self) -> System | None:
        """The system that the bundle holds."""
        return next((system for system in self.systems if system.shipped), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One learner without and with drafts: accuracy on held-out real rows, and the gain paired by row."""

    learner: str
    real: Metric
    augmented: Metric
    gain: Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """A point of the learning curve: accuracy after training on `rows` real rows, with or without drafts."""

    rows: int
    drafts: bool
    accuracy: Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether drafts are used, by whom, and why. `learner` is the one that ships; `reason` is a sentence without full stop."""

    comparisons: tuple[Comparison, ...]
    accepted: bool
    learner: str
    reason: str
    folds: int
    repeats: int
    curve: tuple[CurvePoint, ...] = ()

    @property
    def decisive(self) -> Comparison | None:
        """The comparison of the learner that ships."""
        return next((line for line in self.comparisons if line.learner == self.learner), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """Figures of one label. `support` counts its rows among those measured."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The shipped model by label, and its confusion counts [K, K]: rows are the truth, columns the prediction."""

    rows: tuple[ClassRow, ...]
    confusion: tuple[tuple[int, ...], ...]
    source: Source
    n: int

    @classmethod
    def of(cls, labels: Sequence[str], truth: IntArray, predicted: IntArray, *, source: Source) -> Self:
        """Count from labels [N] and predictions [N], as indices into `labels`."""
        k = len(labels)
        columns = zip(labels, *(column.tolist() for column in per_class(truth, predicted, k)), strict=True)
        return cls(
            rows=tuple(ClassRow(label=name, precision=p, recall=r, f1=f, support=s) for name, p, r, f, s in columns),
            confusion=tuple(tuple(row) for row in confusion(truth, predicted, k).tolist()),
            source=source,
            n=len(truth),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far the shipped model's confidence can be trusted, and what it loses or wins by saying "unsure".

    `error_before` and `error` are the expected calibration error without and with the temperature; `brier` (in [0, 2]) and
    `log_loss` (in nats), with it, weigh being right and being sure together. `answered` is the share of the `n` rows at or above
    the threshold, `accuracy` that among them (None if there are none); `threshold` tells how it was chosen, on rows of its own.
    """

    temperature: float
    error_before: float | None
    error: float
    brier: float
    log_loss: float
    bins: tuple[ReliabilityBin, ...]
    curve: tuple[RiskCoverage, ...]
    threshold: Threshold
    answered: Metric
    accuracy: Metric | None
    source: Source
    n: int

    @classmethod
    def of(
        cls,
        truth: IntArray,
        probabilities: FloatArray,
        *,
        threshold: Threshold,
        source: Source,
        temperature: float = 1.0,
        uncalibrated: FloatArray | None = None,
    ) -> Self:
        """Measure probabilities [N, K] against labels [N]; `uncalibrated` are those at temperature 1."""
        curve = risk_coverage(truth, probabilities)
        sure = probabilities.max(1) >= threshold.threshold
        picked = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), CURVE_POINTS)).astype(int))
        return cls(
            temperature=temperature,
            error_before=None if uncalibrated is None else calibration_error(truth, uncalibrated),
            error=calibration_error(truth, probabilities),
            brier=brier(truth, probabilities),
            log_loss=log_loss(truth, probabilities),
            bins=tuple(reliability(truth, probabilities)),
            curve=tuple(curve[i] for i in picked),
            threshold=threshold,
            answered=Metric("answered", float(sure.mean()), *wilson(float(sure.mean()), len(truth)), len(truth)),
            accuracy=accuracy_interval(truth[sure], probabilities[sure].argmax(1)) if sure.any() else None,
            source=source,
            n=len(truth),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form of the shipped model; latency is of one text at a time. `kept` is its macro-F1 as a share of the whole model's."""

    name: str
    size_mb: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    texts_per_second: float | None = None
    accuracy: Metric | None = None
    kept: float | None = None
    shipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """The certificate of a cascade, tested on `n` unlabelled texts: see `compress.cascade`.

    `answered` is the share of them that the static tier answers, `disagreed` the share that it answers otherwise than the model.
    """

    alpha: float
    delta: float
    n: int
    threshold: float
    answered: Metric
    disagreed: Metric
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """The shipped model before and after compression; `agreement` is the share of rows on which both say the same.

    `student` and `rival` are how often the static student, and TF-IDF taught the same, say what the model says of texts that none
    of them learnt from. `reason` says why the model ships alone although tiers were asked for.
    `asked` is the contract in words, empty where there is none, and `met` whether the shipped form keeps it.
    """

    variants: tuple[Variant, ...]
    agreement: Metric | None = None
    student: Metric | None = None
    rival: Metric | None = None
    reason: str = ""
    cascade: Cascade | None = None
    asked: str = ""
    met: bool = True
