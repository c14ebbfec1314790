"""One label for each row, or any number of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from refsynth import metrics
from refsynth.core.labelset import join_labels, split_labels
from refsynth.core.types import FloatArray, IntArray, Metric
from refsynth.kinds.kind import Choices, Counts
from refsynth.metrics import PerClass

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

    def cuts(self, logits: FloatArray, truth: IntArray) -> FloatArray | None:
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

    def confidence(self, probabilities: FloatArray, answers: IntArray) -> FloatArray:
        """Return the probability of the class [N]."""
        return np.asarray(probabilities[np.arange(len(answers)), answers])

    def choices(self, logits: FloatArray, truth: IntArray) -> Choices:
        """Return the rows as they are: each is a choice between K classes."""
        return Choices(logits, truth)

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

    def figures(self, truth: IntArray, answers: IntArray, k: int) -> tuple[Metric, ...]:
        """Return accuracy and macro-F1."""
        return metrics.accuracy_interval(truth, answers), metrics.macro_f1_interval(truth, answers, k)


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

    def cuts(self, logits: FloatArray, truth: IntArray) -> FloatArray | None:
        """Return for each label the mean of the cut with its highest F1 and of that with the highest F1 over all labels [K].

        The labels' own cuts vary with their rows; half of the way to the common one was better than either, see the design note.
        """
        common = best_cut(logits.ravel(), truth.ravel())
        own = [
            best_cut(values, marks) if FEW_POSITIVES <= marks.sum() < len(marks) else common
            for values, marks in zip(logits.T, truth.T, strict=True)
        ]
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

    def confidence(self, probabilities: FloatArray, answers: IntArray) -> FloatArray:
        """Return the probability that just these labels are right, were they independent [N]."""
        return np.asarray(np.where(answers == 1, probabilities, 1 - probabilities).prod(-1))

    def choices(self, logits: FloatArray, truth: IntArray) -> Choices:
        """Return a choice between no and yes for each row and label [N K, 2]."""
        flat = np.asarray(logits, float).ravel()
        return Choices(np.stack([np.zeros_like(flat), flat], 1), truth.ravel())

    def table(self, truth: IntArray, answers: IntArray, k: int) -> PerClass:
        """Return the figures of each label."""
        return metrics.per_label(truth, answers)

    def counts(self, truth: IntArray, answers: IntArray, k: int) -> Counts:
        """Return the marks [N, K]."""
        return Counts(truth * answers, truth, answers)

    def macro_f1(self, truth: IntArray, answers: IntArray, k: int) -> float:
        """Return the mean F1 over the labels that occur in either."""
        return metrics.mean_f1(truth, answers)

    def figures(self, truth: IntArray, answers: IntArray, k: int) -> tuple[Metric, ...]:
        """Return F1 per row, micro-F1, macro-F1 and exact match."""
        n, scores = len(truth), metrics.row_f1(truth, answers)
        return (
            metrics.bootstrap(self.measure, lambda rows: float(scores[rows].mean()), n),
            metrics.bootstrap("micro-F1", lambda rows: metrics.micro_f1(truth[rows], answers[rows]), n),
            metrics.bootstrap("macro-F1", lambda rows: metrics.mean_f1(truth[rows], answers[rows]), n),
            metrics.share_interval("exact match", metrics.exact_match(truth, answers)),
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
