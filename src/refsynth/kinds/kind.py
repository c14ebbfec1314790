"""What a kind of task answers, and how its answers are counted: what whoever gates, ships, evaluates or reports asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from refsynth.core.types import Array, BoolArray, FloatArray, IntArray, Metric
from refsynth.kinds.metrics import PerClass


class Choices(NamedTuple):
    """Decisions as choices between C classes: logits or probabilities [M, C], the right classes [M], the row of each [M]."""

    values: FloatArray
    truth: IntArray
    rows: IntArray


class Counts(NamedTuple):
    """Labels, or spans, of each row [N], or of each row and label [N, K]: said and right, there, said."""

    hits: IntArray
    there: IntArray
    said: IntArray

    def f1(self) -> float:
        """Return the F1 over all rows; 0 where there are no spans and none are said."""
        both = self.there.sum() + self.said.sum()
        return float(2 * self.hits.sum() / both) if both else 0.0

    def take(self, rows: IntArray) -> Counts:
        """Return the counts of some rows."""
        return Counts(self.hits[rows], self.there[rows], self.said[rows])


class Kind(Protocol):
    """How the answers of a kind of task are made and counted.

    Answers, and the truth, are class indices [N], marks [N, K], or spans as strings [N]. Logits and probabilities are numbers
    [N, K], or an array [N] of numbers [T, C] by text. Cuts [K] say from which value on, logit or probability, a label is said;
    None where they are not needed or not known.

    `met` [N, C] tells of which of C logits the model that answered a row had learned anything: a class without a training row has
    a logit that says so, and nothing else. Where it is left out all have been met.

    `several` tells whether a row may have several labels, `spans` whether labels are of words. `measure` names the mean of
    `scores` over rows: what the gate compares. `least` is the fewest labels that a task has.
    """

    several: bool
    spans: bool
    measure: str
    least: int

    def names(self, label: str) -> tuple[str, ...]:
        """Return the labels that an example's label stands for."""
        ...

    def group(self, label: str) -> str:
        """Return what a draft is asked for, so that it is like an example with this label: a label, or a set of labels."""
        ...

    def truth(self, given: Sequence[str], labels: Sequence[str]) -> Array:
        """Return the examples' labels as an array."""
        ...

    def shown(self, answer: Array, labels: Sequence[str]) -> str:
        """Return the answer for one row as an example's label."""
        ...

    def probabilities(self, logits: Array) -> Array:
        """Return probabilities, in the shape of the logits."""
        ...

    def logits(self, probabilities: Array) -> Array:
        """Return logits that have these probabilities."""
        ...

    def met(self, given: Sequence[str], labels: Sequence[str]) -> BoolArray:
        """Return of which logits a model of rows with these labels learns anything [C]."""
        ...

    def fair(self, logits: Array, truth: Array, met: BoolArray) -> BoolArray:
        """Return whether the model could have been right about each row [N].

        It had met the row's labels, or says of the others what is so of the row; and it has read its words.
        """
        ...

    def cuts(self, logits: Array, truth: Array, met: BoolArray | None = None) -> FloatArray | None:
        """Return the cuts that suit logits of rows that the model was not fitted to, by what it had met."""
        ...

    def decide(self, probabilities: Array, cuts: FloatArray | None = None) -> Array:
        """Return the answers for rows of probabilities, or of logits with cuts on these."""
        ...

    def usual(self, truth: Array, n: int) -> Array:
        """Return what a model that reads nothing says of `n` rows, having seen the truth of some."""
        ...

    def right(self, truth: Array, answers: Array) -> IntArray:
        """Return whether each row's whole answer is right [N]."""
        ...

    def scores(self, truth: Array, answers: Array) -> FloatArray:
        """Return each row's part in the measure [N]: the mean over rows is the measure."""
        ...

    def differences(self, truth: Array, before: Array, after: Array) -> FloatArray:
        """Return what each row says for `after` over `before` [N]; it turns its sign if the row's two answers are swapped.

        No other row's difference changes then, so where neither is better each sign is as likely: `core.signflip` rests on that.
        """
        ...

    def confidence(self, probabilities: Array, answers: Array) -> FloatArray:
        """Return the probability of each row's whole answer [N]."""
        ...

    def choices(self, logits: Array, truth: Array, met: BoolArray | None = None) -> Choices:
        """Return the decisions on rows of logits as choices, which a temperature is fitted to: those on what had been met."""
        ...

    def table(self, truth: Array, answers: Array, k: int) -> PerClass:
        """Return the figures of each of K labels."""
        ...

    def counts(self, truth: Array, answers: Array, k: int) -> Counts:
        """Return what is said and right, there, and said, of each row and label [N, K]: macro-F1 is the mean of F1 over these."""
        ...

    def macro_f1(self, truth: Array, answers: Array, k: int) -> float:
        """Return the mean F1 over the labels of K that occur in either."""
        ...

    def figures(
        self, truth: Array, answers: Array, k: int, groups: IntArray | None = None, *, spread: float = 1.0
    ) -> tuple[Metric, ...]:
        """Return the figures of merit with their intervals; the first is the mean of `scores`.

        Rows of one of the `groups` [N] copy each other; without groups all rows are independent.
        """
        ...
