"""The report's sections on how good the models are: systems, gate, labels, forms. Knows nothing of how they are shown.

Frozen dataclasses of plain values, one class per section. Shares, accuracies and scores are in [0, 1], and gains are
differences of these; sizes are in MB (10^6 bytes); a time's unit is the suffix of the field's name. The `of` constructors
compute a section from arrays of N rows and K labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from refsynth.core.types import IntArray, Metric
from refsynth.kinds.metrics import PerClass, confusion, per_class, per_label

Source = Literal["test file", "cross-validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A line of the results table.

    Attributes:
        texts_per_second: in batches on this machine's CPU.
        shipped: whether it is the one in the bundle.
        usual: whether it is the baseline that always gives the most frequent answer.
    """

    name: str
    detail: str = ""
    accuracy: Metric | None = None
    f1_per_row: Metric | None = None
    span_f1: Metric | None = None
    precision: Metric | None = None
    recall: Metric | None = None
    micro_f1: Metric | None = None
    macro_f1: Metric | None = None
    exact_match: Metric | None = None
    texts_per_second: float | None = None
    size_mb: float | None = None
    shipped: bool = False
    usual: bool = False

    @property
    def score(self) -> Metric | None:
        """The figure by which systems are compared."""
        return self.accuracy or self.f1_per_row or self.span_f1


FIGURES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "f1_per_row": "F1 per row",
    "span_f1": "span F1",
    "precision": "precision",
    "recall": "recall",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "exact_match": "exact match",
}
"""The figures of a `System` and their names, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The systems measured on the same `n` rows: of the test file named `file`, or of all held-out folds.

    `crossed` is the shipped model's cross-validated figure, if the systems were measured on a test file.
    """

    systems: tuple[System, ...]
    source: Source
    n: int
    file: str = ""
    crossed: Metric | None = None

    @property
    def figures(self) -> dict[str, str]:
        """The names of the figures that the systems have, by field."""
        return {field: name for field, name in FIGURES.items() if any(getattr(system, field) for system in self.systems)}

    @property
    def shipped(self) -> System | None:
        """The system that the bundle holds."""
        return next((system for system in self.systems if system.shipped), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A learner's score on held-out real rows without drafts; with drafts, if it was trained with any; and the paired gain."""

    learner: str
    real: Metric
    augmented: Metric | None = None
    gain: Metric | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether drafts are used, which learner ships, and why.

    Attributes:
        accepted: whether drafts are used.
        reason: a sentence without full stop.
        repeats: number of times that the rows were split into folds.
        passed_over: why a learner that measured better does not ship; empty if none did.
        measure: the name of the score that is compared.
        chance: probability that some learner has a gain like the shipped one's if drafts had no effect.
        false_accepts: drafts are used if `chance` is at most this.
    """

    comparisons: tuple[Comparison, ...]
    accepted: bool
    learner: str
    reason: str
    folds: int
    repeats: int
    passed_over: str = ""
    measure: str = "accuracy"
    chance: float | None = None
    false_accepts: float = 0.05

    @property
    def with_drafts(self) -> tuple[Comparison, ...]:
        """The learners that were also measured with drafts."""
        return tuple(line for line in self.comparisons if line.gain is not None)

    @property
    def gain(self) -> Metric | None:
        """The gain from drafts of the learner that ships."""
        return next((line.gain for line in self.comparisons if line.learner == self.learner), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """The figures of one label. `support` counts its rows; `threshold` is its decision threshold in multi-label tasks."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The shipped model's figures by label, and its confusion counts [K, K]: rows are the truth, columns the predictions.

    Multi-label tasks have no confusion counts.
    """

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

    @classmethod
    def of_marks(
        cls, labels: Sequence[str], truth: IntArray, predicted: IntArray, *, thresholds: Sequence[float], source: Source
    ) -> Self:
        """Count from indicator matrices [N, K]; `thresholds` [K] may be empty."""
        return cls.of_table(labels, per_label(truth, predicted), thresholds=thresholds, source=source, n=len(truth))

    @classmethod
    def of_table(
        cls, labels: Sequence[str], table: PerClass, *, thresholds: Sequence[float] = (), source: Source, n: int
    ) -> Self:
        """Take the figures of each label, without confusion counts; `thresholds` [K] may be empty."""
        columns = zip(labels, *(column.tolist() for column in table), strict=True)
        least: list[float | None] = [*thresholds] or [None] * len(labels)
        return cls(
            rows=tuple(
                ClassRow(label=name, precision=p, recall=r, f1=f, support=s, threshold=t)
                for (name, p, r, f, s), t in zip(columns, least, strict=True)
            ),
            confusion=(),
            source=source,
            n=n,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One form of the shipped model.

    Attributes:
        p50_ms: median latency of single texts.
        texts_per_second: in batches.
        score: the gate's measure, such as accuracy.
        kept: its macro-F1 as a share of the whole model's.
        range: interval of `kept`, for the form that ships; a note states its confidence.
    """

    name: str
    size_mb: float
    p50_ms: float | None = None
    texts_per_second: float | None = None
    score: Metric | None = None
    kept: float | None = None
    range: tuple[float, float] | None = None
    shipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """The certificate of a cascade, tested on `n` unlabeled texts, see `compress.cascade`.

    `answered` is the share of them that the static tier answers, `disagreed` the share on which it contradicts the model. `void`
    tells whether the test rows are distributed differently; None without test rows.
    """

    alpha: float
    delta: float
    n: int
    threshold: float
    answered: Metric
    disagreed: Metric
    assumptions: tuple[str, ...]
    void: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """The forms of the shipped model.

    Attributes:
        student: how often the static student agrees with the model on texts that neither was trained on.
        rival: the same for TF-IDF distilled from the same texts.
        reason: why the model ships alone although tiers were asked for.
        asked: the contract in words; empty without one.
        met: whether the shipped form keeps the contract.
        choice: how it was chosen.
        notes: sentences on how the kept quality was measured, or why it was not.
    """

    variants: tuple[Variant, ...]
    measure: str = "accuracy"
    student: Metric | None = None
    rival: Metric | None = None
    reason: str = ""
    cascade: Cascade | None = None
    asked: str = ""
    met: bool = True
    choice: str = ""
    notes: tuple[str, ...] = ()
