"""The parts of a report on how well models do: systems, the gate, labels, forms. Knows nothing of how they are shown.

Frozen dataclasses of plain values, one class a section. Shares, accuracies and scores are in [0, 1] and gains are differences of
those; sizes are in MB (10^6 bytes); times are in the unit that the field's name ends with. The `of` constructors compute a
section from arrays of N rows and K labels.
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
    """A line of the results table; speed is of a batch on this machine's CPU. `detail` says in a few words what it is.

    `shipped` is the one in the bundle, `usual` the one that reads nothing and gives the most frequent answer.
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
        """The figure that systems are compared by."""
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
"""The figures of a `System` and what they are called, in the order in which they are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Systems side by side on the same `n` rows: of the test file named `file`, or of all folds when each was held out.

    `crossed` is the figure of what ships on the rows of all folds where the systems were measured on a test file.
    """

    systems: tuple[System, ...]
    source: Source
    n: int
    file: str = ""
    crossed: Metric | None = None

    @property
    def figures(self) -> dict[str, str]:
        """The names of the figures that the systems have, by field."""
        return {field: name for field, name in FIGURES.items() if any(getattr(each, field) for each in self.systems)}

    @property
    def shipped(self) -> System | None:
        """The system that the bundle holds."""
        return next((system for system in self.systems if system.shipped), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One learner: its score on held-out real rows without drafts and, where it learnt from any, with them; the gain by row."""

    learner: str
    real: Metric
    augmented: Metric | None = None
    gain: Metric | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Whether drafts are used, by whom, and why. `learner` is the one that ships; `reason` is a sentence without full stop.

    `comparisons` has every learner that was measured. `passed_over` says why one that measured better does not ship; empty where
    none did. `measure` names the score that the comparisons are made in. `chance` is the probability of a gain like that of the
    learner that ships, for any learner, if drafts had no effect; drafts are used where it is at most `false_accepts`.
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
        """The learners that were measured with drafts too."""
        return tuple(line for line in self.comparisons if line.gain is not None)

    @property
    def gain(self) -> Metric | None:
        """What drafts bring to the learner that ships."""
        return next((line.gain for line in self.comparisons if line.learner == self.learner), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
    """Figures of one label. `support` counts its rows among those measured.

    `threshold` is the probability from which on it is said, where a row may have any number of labels.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The shipped model by label, and its confusion counts [K, K]: rows are the truth, columns the prediction.

    There are no such counts where a row may have any number of labels: none of them is taken for another.
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
        cls, labels: Sequence[str], truth: IntArray, said: IntArray, *, thresholds: Sequence[float], source: Source
    ) -> Self:
        """Count from marks of 0 and 1 [N, K]; `thresholds` [K] may be empty."""
        return cls.of_table(labels, per_label(truth, said), thresholds=thresholds, source=source, n=len(truth))

    @classmethod
    def of_table(
        cls, labels: Sequence[str], table: PerClass, *, thresholds: Sequence[float] = (), source: Source, n: int
    ) -> Self:
        """Take the figures of labels none of which is taken for another; `thresholds` [K] may be empty."""
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
    """One form of the shipped model; latency is of one text at a time. `kept` is its macro-F1 as a share of the whole model's.

    `range` is where that lies, lower and upper end, of the one that ships: at which confidence the section says.

    `score` is what the gate measures: accuracy where each row has one label.
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
    """The certificate of a cascade, tested on `n` unlabelled texts: see `compress.cascade`.

    `answered` is the share of them that the static tier answers, `disagreed` the share that it answers otherwise than the model.
    `void` tells whether the test rows are drawn otherwise; None where there are none.
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

    `student` and `rival` are how often the static student, and TF-IDF taught the same, say what the model says of texts that none
    of them was trained on. `reason` says why the model ships alone although tiers were asked for.
    `asked` is the contract in words, empty where there is none, `met` whether the shipped form keeps it, and `choice` how it was
    chosen. `notes` are sentences on what is kept: how it was measured, or why it cannot be told.
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
