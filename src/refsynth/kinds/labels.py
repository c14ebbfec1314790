"""One label for each row, or any number of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from refsynth.core.intervals import accuracy_interval, bootstrap, mean_interval
from refsynth.core.labelset import join_labels, split_labels
from refsynth.core.types import BoolArray, FloatArray, IntArray, Metric
from refsynth.kinds import metrics
from refsynth.kinds.kind import Choices, Counts
from refsynth.kinds.metrics import PerClass

FEW_POSITIVES = 4
"""Rows of a label below which its own cut says nothing: it then has that of all labels together (design/010-multilabel.md)."""


class OneLabel:
    """One label for each row: the likeliest."""

    several = False
    spans = False
    measure = "accuracy"
    least = 2

    def names(self, label: str) -> tuple[str, ...]:
        """Return the label."""
        return (label,)

    def group(self, label: str) -> str:
        """Return the label."""
        return label

    def truth(self, given: Sequence[str], labels: Sequence[str]) -> IntArray:
        """Return class indices [N]."""
        index = {label: number for number, label in enumerate(labels)}
        return np.array([index[label] for label in given], int)

    def shown(self, answer: IntArray, labels: Sequence[str]) -> str:
        """Return the label of a class."""
        return labels[int(answer)]

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Return the softmax."""
        return metrics.softmax(np.asarray(logits, float))

    def logits(self, probabilities: FloatArray) -> FloatArray:
        """Return the logarithms."""
        return np.asarray(np.log(np.maximum(probabilities, metrics.LEAST)))

    def met(self, given: Sequence[str], labels: Sequence[str]) -> BoolArray:
        """Return which classes have a row [K]."""
        return np.isin(np.asarray(labels, object), list(set(given)))

    def fair(self, logits: FloatArray, truth: IntArray, met: BoolArray) -> BoolArray:
        """Return whether the row's class had been met [N]."""
        return np.asarray(met[np.arange(len(truth)), truth], bool)

    def cuts(self, logits: FloatArray, truth: IntArray, met: BoolArray | None = None) -> FloatArray | None:
        """Return none: labels compete."""
        return None

    def decide(self, probabilities: FloatArray, cuts: FloatArray | None = None) -> IntArray:
        """Return the likeliest class [N]."""
        return np.asarray(probabilities.argmax(-1))

    def usual(self, truth: IntArray, n: int) -> IntArray:
        """Return the most frequent class for each of `n` rows."""
        return most_frequent(truth, n)

    def right(self, truth: IntArray, answers: IntArray) -> IntArray:
        """Return whether the class is right [N]."""
        return np.asarray(truth == answers, int)

    def scores(self, truth: IntArray, answers: IntArray) -> FloatArray:
        """Return whether the class is right [N]."""
        return np.asarray(truth == answers, float)

    def differences(self, truth: IntArray, before: IntArray, after: IntArray) -> FloatArray:
        """Return the differences of scores [N]."""
        return self.scores(truth, after) - self.scores(truth, before)

    def confidence(self, probabilities: FloatArray, answers: IntArray) -> FloatArray:
        """Return the probability of the class [N]."""
        return np.asarray(probabilities[np.arange(len(answers)), answers])

    def choices(self, logits: FloatArray, truth: IntArray, met: BoolArray | None = None) -> Choices:
        """Return the rows as they are: each is a choice between K classes, if its own had been met."""
        rows = np.arange(len(truth)) if met is None else np.flatnonzero(self.fair(logits, truth, met))
        return Choices(np.asarray(logits)[rows], np.asarray(truth)[rows], rows)

    def table(self, truth: IntArray, answers: IntArray, k: int) -> PerClass:
        """Return the figures of each class."""
        return metrics.per_class(truth, answers, k)

    def counts(self, truth: IntArray, answers: IntArray, k: int) -> Counts:
        """Return each row's class as one of K [N, K]."""
        there, said = (np.eye(k, dtype=int)[each] for each in (truth, answers))
        return Counts(there * said, there, said)

    def macro_f1(self, truth: IntArray, answers: IntArray, k: int) -> float:
        """Return the mean F1 over the classes that occur in either."""
        return metrics.macro_f1(truth, answers, k)

    def figures(
        self, truth: IntArray, answers: IntArray, k: int, groups: IntArray | None = None, *, spread: float = 1.0
    ) -> tuple[Metric, ...]:
        """Return accuracy and macro-F1."""

        def macro(rows: IntArray) -> float:
            return metrics.macro_f1(truth[rows], answers[rows], k)

        right = accuracy_interval(truth, answers, groups, spread=spread)
        return right, bootstrap("macro-F1", macro, len(truth), groups=groups, spread=spread)


class AnyLabels:
    """Any number of labels for each row: those whose probability reaches their threshold."""

    several = True
    spans = False
    measure = "F1 per row"
    least = 2

    def names(self, label: str) -> tuple[str, ...]:
        """Return the names of a set."""
        return split_labels(label)

    def group(self, label: str) -> str:
        """Return the set."""
        return label

    def truth(self, given: Sequence[str], labels: Sequence[str]) -> IntArray:
        """Return marks [N, K]."""
        index = {label: number for number, label in enumerate(labels)}
        marks = np.zeros((len(given), len(labels)), int)
        for row, label in enumerate(given):
            marks[row, [index[name] for name in split_labels(label)]] = 1
        return marks

    def shown(self, answer: IntArray, labels: Sequence[str]) -> str:
        """Return a row's marks [K] as a set."""
        return join_labels([label for label, mark in zip(labels, answer, strict=True) if mark], labels)

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Return each label's probability by itself."""
        return metrics.sigmoid(logits)

    def logits(self, probabilities: FloatArray) -> FloatArray:
        """Return the log-odds of each label."""
        shares = np.asarray(probabilities, float)
        return np.asarray(np.log(np.maximum(shares, metrics.LEAST)) - np.log(np.maximum(1 - shares, metrics.LEAST)))

    def met(self, given: Sequence[str], labels: Sequence[str]) -> BoolArray:
        """Return which labels some rows have and others have not [K]: of the rest a model says always, or never."""
        marks = self.truth(given, labels)
        return np.asarray(marks.any(0) & ~marks.all(0) if len(marks) else np.zeros(len(labels), bool))

    def fair(self, logits: FloatArray, truth: IntArray, met: BoolArray) -> BoolArray:
        """Return whether all that was said of labels that had not been met, always or never, happens to be so of a row [N]."""
        return np.asarray((met | ((logits > 0) == (truth == 1))).all(1))

    def cuts(self, logits: FloatArray, truth: IntArray, met: BoolArray | None = None) -> FloatArray | None:
        """Return for each label the mean of the cut with its highest F1 and of that with the highest F1 over all labels [K].

        The labels' own cuts vary with their rows; half of the way to the common one was better than either, see the design note.
        """
        seen = np.ones(logits.shape, bool) if met is None else met
        common = best_cut(logits[seen], truth[seen])
        own = []
        for values, marks, mine in zip(logits.T, truth.T, seen.T, strict=True):
            enough = FEW_POSITIVES <= marks[mine].sum() < mine.sum()
            own.append(best_cut(values[mine], marks[mine]) if enough else common)
        return (np.array(own) + common) / 2

    def decide(self, probabilities: FloatArray, cuts: FloatArray | None = None) -> IntArray:
        """Return marks [N, K]; without cuts a label is said where it is as likely as not."""
        return np.asarray(probabilities >= (0.5 if cuts is None else cuts), int)

    def usual(self, truth: IntArray, n: int) -> IntArray:
        """Return the most frequent marks for each of `n` rows."""
        return most_frequent(truth, n)

    def right(self, truth: IntArray, answers: IntArray) -> IntArray:
        """Return whether just the right labels are said [N]."""
        return metrics.exact_match(truth, answers)

    def scores(self, truth: IntArray, answers: IntArray) -> FloatArray:
        """Return the F1 of each row's labels [N]."""
        return metrics.row_f1(truth, answers)

    def differences(self, truth: IntArray, before: IntArray, after: IntArray) -> FloatArray:
        """Return the differences of scores [N]."""
        return self.scores(truth, after) - self.scores(truth, before)

    def confidence(self, probabilities: FloatArray, answers: IntArray) -> FloatArray:
        """Return the probability that just these labels are right, were they independent [N]."""
        return np.asarray(np.where(answers == 1, probabilities, 1 - probabilities).prod(-1))

    def choices(self, logits: FloatArray, truth: IntArray, met: BoolArray | None = None) -> Choices:
        """Return a choice between no and yes for each row and label that had been met [M, 2], M at most N K."""
        seen = np.ones(truth.shape, bool) if met is None else met
        flat = np.asarray(logits, float)[seen]
        return Choices(np.stack([np.zeros_like(flat), flat], 1), truth[seen], np.nonzero(seen)[0])

    def table(self, truth: IntArray, answers: IntArray, k: int) -> PerClass:
        """Return the figures of each label."""
        return metrics.per_label(truth, answers)

    def counts(self, truth: IntArray, answers: IntArray, k: int) -> Counts:
        """Return the marks [N, K]."""
        return Counts(truth * answers, truth, answers)

    def macro_f1(self, truth: IntArray, answers: IntArray, k: int) -> float:
        """Return the mean F1 over the labels that occur in either."""
        return metrics.mean_f1(truth, answers)

    def figures(
        self, truth: IntArray, answers: IntArray, k: int, groups: IntArray | None = None, *, spread: float = 1.0
    ) -> tuple[Metric, ...]:
        """Return F1 per row, micro-F1, macro-F1 and exact match."""
        marked = np.asarray((truth | answers).any(1))

        def over(name: str, figure: Callable[[IntArray, IntArray], float]) -> Metric:
            said = (lambda rows: figure(truth[rows], answers[rows]), len(truth))
            return bootstrap(name, *said, groups=groups, matters=marked, spread=spread)

        return (
            mean_interval(self.measure, self.scores(truth, answers), groups, spread=spread),
            over("micro-F1", metrics.micro_f1),
            over("macro-F1", metrics.mean_f1),
            mean_interval("exact match", metrics.exact_match(truth, answers), groups, spread=spread),
        )


def best_cut(values: FloatArray, marks: IntArray) -> float:
    """Return the value from which on saying yes gives the highest F1 against marks [N], half way to the next lower value."""
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(marks[order])
    if not hits.size or not hits[-1]:
        return 0.0
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # equal values cannot be told apart
    best = int(f1.argmax())
    return float(ranked[best] if best == len(ranked) - 1 else (ranked[best] + ranked[best + 1]) / 2)


def most_frequent(truth: IntArray, n: int) -> IntArray:
    """Return the most frequent class or row of marks, the first seen of equals, `n` times."""
    first = Counter(map(tuple, np.atleast_2d(truth.T).T.tolist())).most_common(1)[0][0]
    return np.array([first] * n).reshape(n, *truth.shape[1:])


ONE_LABEL, ANY_LABELS = OneLabel(), AnyLabels()
