"""`Kind`, the protocol of what a task kind predicts and how predictions are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from refsynth.core.types import Array, BoolArray, FloatArray, IntArray, Metric
from refsynth.kinds.metrics import PerClass


class Choices(NamedTuple):
    """Decisions as choices between C classes: logits or probabilities [M, C], the true classes [M], the row of each [M]."""

    values: FloatArray
    truth: IntArray
    rows: IntArray


class Counts(NamedTuple):
    """Numbers of labels, or of spans, of each row [N], or of each row and label [N, K]: correct, true, predicted."""

    hits: IntArray
    true: IntArray
    predicted: IntArray

    def f1(self) -> float:
        """Return the F1 over all rows; 0 if nothing is true or predicted."""
        both = self.true.sum() + self.predicted.sum()
        return float(2 * self.hits.sum() / both) if both else 0.0

    def macro_f1(self) -> float:
        """Return the mean F1 over the labels that are true or predicted in some row, of counts [N, K]."""
        hits, both = self.hits.sum(0), self.true.sum(0) + self.predicted.sum(0)
        return float((2 * hits[both > 0] / both[both > 0]).mean()) if both.any() else 0.0

    def take(self, rows: IntArray) -> Counts:
        """Return the counts of some rows."""
        return Counts(self.hits[rows], self.true[rows], self.predicted[rows])


class Kind(Protocol):
    """How the answers of a task kind are decided and counted.

    Answers, and the truth, are class indices [N], indicators [N, K], or spans as strings [N]. Logits and probabilities are
    numbers [N, K], or an array [N] of numbers [T, C] by text. A label is predicted if its logit or probability reaches its own
    of the thresholds [K]; they are None if the kind needs none, or if none are known.

    `learned` [N, C] is false for classes that the model of a row could not learn, for example because it had no training row of
    them: their logits carry no information. By default the model learned all classes.

    Attributes:
        several: whether a row may have several labels.
        words: whether labels belong to words.
        measure: the name of the mean of `scores` over rows, which the gate compares.
        least: the fewest labels that a task may have.
    """

    several: bool
    words: bool
    measure: str
    least: int

    def names(self, label: str) -> tuple[str, ...]:
        """Return the labels that an example's label stands for."""

    def group(self, label: str) -> str:
        """Return what to request of a draft that should be like an example with this label: a label, or a set of labels."""

    def truth(self, given: Sequence[str], labels: Sequence[str]) -> Array:
        """Return the examples' labels as an array."""

    def shown(self, answer: Array, labels: Sequence[str]) -> str:
        """Return the answer for one row as an example's label."""

    def probabilities(self, logits: Array) -> Array:
        """Return probabilities, in the shape of the logits."""

    def logits(self, probabilities: Array) -> Array:
        """Return logits that have these probabilities."""

    def learnable(self, given: Sequence[str], labels: Sequence[str]) -> BoolArray:
        """Return which classes a model can learn from rows with these labels [C]."""

    def answerable(self, logits: Array, truth: Array, learned: BoolArray) -> BoolArray:
        """Return whether the model could have been right about each row [N].

        That needs the row's labels to be learned, or the constant prediction for the others to be true; and all words of labels
        to be read.
        """

    def thresholds(self, logits: Array, truth: Array, learned: BoolArray | None = None) -> FloatArray | None:
        """Return the best thresholds [K] for the logits of held-out rows."""

    def decide(self, probabilities: Array, thresholds: FloatArray | None = None) -> Array:
        """Return the answers for rows of probabilities, or for logits with thresholds on logits."""

    def usual(self, truth: Array, n: int) -> Array:
        """Return the answers of the majority baseline for `n` rows, given the truth of some rows."""

    def right(self, truth: Array, answers: Array) -> IntArray:
        """Return whether each row's whole answer is correct [N]."""

    def scores(self, truth: Array, answers: Array) -> FloatArray:
        """Return each row's part in the measure [N]: the mean over rows is the measure."""

    def differences(self, truth: Array, before: Array, after: Array) -> FloatArray:
        """Return by how much each row favors `after` over `before` [N]; swapping a row's two answers flips its sign.

        Swapping changes no other row's difference. So if neither is better, both signs are equally likely: `core.signflip` relies
        on that.
        """

    def confidence(self, probabilities: Array, answers: Array) -> FloatArray:
        """Return the probability of each row's whole answer [N]."""

    def choices(self, logits: Array, truth: Array, learned: BoolArray | None = None) -> Choices:
        """Return the decisions on learned classes as choices, to which a temperature is fitted."""

    def table(self, truth: Array, answers: Array, k: int) -> PerClass:
        """Return the figures of each of K labels."""

    def counts(self, truth: Array, answers: Array, k: int) -> Counts:
        """Return what is correct, true and predicted of each row and label [N, K]."""

    def figures(
        self, truth: Array, answers: Array, k: int, groups: IntArray | None = None, *, spread: float = 1.0
    ) -> tuple[Metric, ...]:
        """Return the figures of merit with their intervals; the first is the mean of `scores`.

        Rows of the same of the `groups` [N] copy each other; by default all rows are independent. `spread` is the factor by which
        figures vary more than independent rows would.
        """
