"""The parts of a report: frozen dataclasses of plain values, one class a section. Knows nothing of how they are shown.

Shares, accuracies and scores are in [0, 1] and gains are differences of those; sizes are in MB (10^6 bytes); times are in the
unit that the field's name ends with. The `of` constructors compute a section from arrays of N rows and K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np

from refsynth.core.types import Draft, FloatArray, IntArray, Metric
from refsynth.evaluation.calibration import Threshold
from refsynth.metrics import (
    ReliabilityBin,
    RiskCoverage,
    accuracy_interval,
    calibration_error,
    confusion,
    per_class,
    reliability,
    risk_coverage,
    wilson,
)

Source = Literal["test file", "cross-validation"]
CURVE_POINTS = 200
HISTOGRAM_BINS = 24


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

    `error_before` and `error` are the expected calibration error without and with the temperature. `answered` is the share of
    the `n` rows at or above the threshold, `accuracy` that among them (None if there are none); `threshold` tells how it was
    chosen, on rows of its own.
    """

    temperature: float
    error_before: float | None
    error: float
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
            bins=tuple(reliability(truth, probabilities)),
            curve=tuple(curve[i] for i in picked),
            threshold=threshold,
            answered=Metric("answered", float(sure.mean()), *wilson(float(sure.mean()), len(truth)), len(truth)),
            accuracy=accuracy_interval(truth[sure], probabilities[sure].argmax(1)) if sure.any() else None,
            source=source,
            n=len(truth),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftCount:
    """Drafts of one label."""

    label: str
    asked: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """How varied a set of `n` texts is.

    Shares of distinct words and word pairs (Li et al., 2016); the mean BLEU of a text against all others (self-BLEU, Zhu et al.,
    2018); the mean overlap of a text with its nearest neighbour in the set.
    """

    name: str
    distinct_1: float
    distinct_2: float
    self_bleu: float
    nearest_overlap: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Share of `n` real rows that have one of `drafts` drafts nearer than their k-th nearest other real row (Naeem et al., 2020).

    `expected` is what as many drafts from the distribution of the real rows would come to.
    """

    value: float
    expected: float
    k: int
    n: int
    drafts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreHistogram:
    """Counts of one scorer's scores between B + 1 `edges`, of kept and of dropped drafts. `cut` is the filter's limit."""

    scorer: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    cut: float | None = None

    @classmethod
    def of(cls, scorer: str, kept: Sequence[float], dropped: Sequence[float], *, cut: float | None = None) -> Self:
        """Count finite scores in bins of equal width."""
        groups = [np.asarray(group, float) for group in (kept, dropped)]
        finite = [group[np.isfinite(group)] for group in groups]
        edges = np.histogram_bin_edges(np.concatenate(finite), HISTOGRAM_BINS)
        counts = [tuple(np.histogram(group, edges)[0].tolist()) for group in finite]
        return cls(scorer=scorer, edges=tuple(edges.tolist()), kept=counts[0], dropped=counts[1], cut=cut)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """What the reference wrote and what became of it.

    `dropped` counts by reason. `best` and `worst` are kept drafts at both ends of the ranking; `rejected` are dropped ones.
    `seeds` maps the ids that provenance shows to their texts. `agreement` is the share of parsed drafts whose label a model of
    the real rows confirms.
    """

    reference: str
    asked: int
    parsed: int
    kept: int
    dropped: Mapping[str, int]
    seconds: float | None = None
    per_class: tuple[DraftCount, ...] = ()
    diversity: tuple[Diversity, ...] = ()
    coverage: Coverage | None = None
    agreement: Metric | None = None
    scores: tuple[ScoreHistogram, ...] = ()
    best: tuple[Draft, ...] = ()
    worst: tuple[Draft, ...] = ()
    rejected: tuple[Draft, ...] = ()
    seeds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Rows of a file that were left out, by reason, with their row numbers."""

    reason: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A text that carries several labels."""

    text: str
    labels: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file that was read. `role` is e.g. `train`; `format` e.g. `CSV, utf-8, comma`."""

    role: str
    file: str
    rows: int
    used: int
    format: str = ""
    skipped: tuple[Skipped, ...] = ()
    conflicts: tuple[Conflict, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A fold of the real rows: how many it holds out, and how many drafts with them because they had seen one of them."""

    rows: int
    drafts_held_out: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The user's rows: files, real training rows per label, folds."""

    files: tuple[DataFile, ...]
    per_label: Mapping[str, int] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form of the shipped model; latency is of one text at a time."""

    name: str
    size_mb: float
    p50_ms: float | None = None
    p95_ms: float | None = None
    texts_per_second: float | None = None
    accuracy: Metric | None = None
    shipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """The shipped model before and after compression; `agreement` is the share of rows on which both say the same."""

    variants: tuple[Variant, ...]
    agreement: Metric | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something that the run depends on or made: a file, a model, the bundle. `detail` is a version, a licence or a size."""

    name: str
    sha256: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the run with the time it took when it was last made."""

    name: str
    seconds: float
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Enough to make the run again."""

    command: str
    seeds: Mapping[str, int]
    machine: str
    versions: Mapping[str, str]
    artifacts: tuple[Artifact, ...] = ()
    steps: tuple[Step, ...] = ()
