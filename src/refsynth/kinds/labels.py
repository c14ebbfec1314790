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
"""A label with fewer rows gets the threshold of all labels together, not one of its own (design/010-multilabel.md)."""


class _RowLabels:
    """What kinds share that label whole rows."""

    words = False
    least = 2

    def group(self, label: str) -> str:
        """Return the label, or the set of labels."""
        return label

    def usual(self, truth: IntArray, n: int) -> IntArray:
        """Return the most frequent class, or row of indicators, for each of `n` rows; of equally frequent ones the first."""
        first = Counter(map(tuple, np.atleast_2d(truth.T).T.tolist())).most_common(1)[0][0]
        return np.array([first] * n).reshape(n, *truth.shape[1:])

    def scores(self, truth: IntArray, answers: IntArray) -> FloatArray:
        """Return each row's part in the measure [N]."""
        raise NotImplementedError

    def differences(self, truth: IntArray, before: IntArray, after: IntArray) -> FloatArray:
        """Return the differences of scores [N]."""
        return self.scores(truth, after) - self.scores(truth, before)


class OneLabel(_RowLabels):
    """One label for each row: the most probable."""

    several = False
    measure = "accuracy"

    def names(self, label: str) -> tuple[str, ...]:
        """Return the label."""
        return (label,)

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

    def learnable(self, given: Sequence[str], labels: Sequence[str]) -> BoolArray:
        """Return which classes have a row [K]."""
        return np.isin(np.asarray(labels, object), list(set(given)))

    def answerable(self, logits: FloatArray, truth: IntArray, learned: BoolArray) -> BoolArray:
        """Return whether the model learned the row's class [N]."""
        return np.asarray(learned[np.arange(len(truth)), truth], bool)

    def thresholds(self, logits: FloatArray, truth: IntArray, learned: BoolArray | None = None) -> FloatArray | None:
        """Return None, since labels compete."""
        return None

    def decide(self, probabilities: FloatArray, thresholds: FloatArray | None = None) -> IntArray:
        """Return the most probable class [N]."""
        return np.asarray(probabilities.argmax(-1))

    def right(self, truth: IntArray, answers: IntArray) -> IntArray:
        """Return whether the class is right [N]."""
        return np.asarray(truth == answers, int)

    def scores(self, truth: IntArray, answers: IntArray) -> FloatArray:
        """Return whether the class is right [N]."""
        return np.asarray(truth == answers, float)

    def confidence(self, probabilities: FloatArray, answers: IntArray) -> FloatArray:
        """Return the probability of the class [N]."""
        return np.asarray(probabilities[np.arange(len(answers)), answers])

    def choices(self, logits: FloatArray, truth: IntArray, learned: BoolArray | None = None) -> Choices:
        """Return each row as a choice between K classes, if the model learned its class."""
        rows = np.arange(len(truth)) if learned is None else np.flatnonzero(self.answerable(logits, truth, learned))
        return Choices(np.asarray(logits)[rows], np.asarray(truth)[rows], rows)

    def table(self, truth: IntArray, answers: IntArray, k: int) -> PerClass:
        """Return the figures of each class."""
        return metrics.per_class(truth, answers, k)

    def counts(self, truth: IntArray, answers: IntArray, k: int) -> Counts:
        """Return each row's class as one of K [N, K]."""
        true, predicted = (np.eye(k, dtype=int)[each] for each in (truth, answers))
        return Counts(true * predicted, true, predicted)

    def figures(
        self, truth: IntArray, answers: IntArray, k: int, groups: IntArray | None = None, *, spread: float = 1.0
    ) -> tuple[Metric, ...]:
        """Return accuracy and macro-F1."""

        def macro(rows: IntArray) -> float:
            return metrics.macro_f1(truth[rows], answers[rows], k)

        right = accuracy_interval(truth, answers, groups, spread=spread)
        return right, bootstrap("macro-F1", macro, len(truth), groups=groups, spread=spread)


class AnyLabels(_RowLabels):
    """Any number of labels for each row: those whose probability reaches their threshold."""

    several = True
    measure = "F1 per row"

    def names(self, label: str) -> tuple[str, ...]:
        """Return the names of a set."""
        return split_labels(label)

    def truth(self, given: Sequence[str], labels: Sequence[str]) -> IntArray:
        """Return the indicator matrix [N, K]."""
        index = {label: number for number, label in enumerate(labels)}
        matrix = np.zeros((len(given), len(labels)), int)
        for row, label in enumerate(given):
            matrix[row, [index[name] for name in split_labels(label)]] = 1
        return matrix

    def shown(self, answer: IntArray, labels: Sequence[str]) -> str:
        """Return a row's indicators [K] as a set."""
        return join_labels([label for label, present in zip(labels, answer, strict=True) if present], labels)

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Return each label's probability by itself."""
        return metrics.sigmoid(logits)

    def logits(self, probabilities: FloatArray) -> FloatArray:
        """Return the log-odds of each label."""
        shares = np.asarray(probabilities, float)
        return np.asarray(np.log(np.maximum(shares, metrics.LEAST)) - np.log(np.maximum(1 - shares, metrics.LEAST)))

    def learnable(self, given: Sequence[str], labels: Sequence[str]) -> BoolArray:
        """Return which labels some rows have and others lack [K]; a model predicts the other labels always, or never."""
        matrix = self.truth(given, labels)
        return np.asarray(matrix.any(0) & ~matrix.all(0) if len(matrix) else np.zeros(len(labels), bool))

    def answerable(self, logits: FloatArray, truth: IntArray, learned: BoolArray) -> BoolArray:
        """Return whether the constant predictions of labels that the model could not learn are true of each row [N]."""
        return np.asarray((learned | ((logits > 0) == (truth == 1))).all(1))

    def thresholds(self, logits: FloatArray, truth: IntArray, learned: BoolArray | None = None) -> FloatArray | None:
        """Return for each label the mean of its own best threshold and of the best one over all labels, by F1 [K].

        A label's own threshold varies with its rows; the mean of both was better than either (design/010-multilabel.md).
        """
        known = np.ones(logits.shape, bool) if learned is None else learned
        common = best_threshold(logits[known], truth[known])
        own = []
        for values, positive, rows in zip(logits.T, truth.T, known.T, strict=True):
            enough = FEW_POSITIVES <= positive[rows].sum() < rows.sum()
            own.append(best_threshold(values[rows], positive[rows]) if enough else common)
        return (np.array(own) + common) / 2

    def decide(self, probabilities: FloatArray, thresholds: FloatArray | None = None) -> IntArray:
        """Return indicators [N, K]; the default threshold is a probability of 0.5."""
        return np.asarray(probabilities >= (0.5 if thresholds is None else thresholds), int)

    def right(self, truth: IntArray, answers: IntArray) -> IntArray:
        """Return whether exactly the true labels are predicted [N]."""
        return metrics.exact_match(truth, answers)

    def scores(self, truth: IntArray, answers: IntArray) -> FloatArray:
        """Return the F1 of each row's labels [N]."""
        return metrics.row_f1(truth, answers)

    def confidence(self, probabilities: FloatArray, answers: IntArray) -> FloatArray:
        """Return the probability that exactly these labels are true, if labels were independent [N]."""
        return np.asarray(np.where(answers == 1, probabilities, 1 - probabilities).prod(-1))

    def choices(self, logits: FloatArray, truth: IntArray, learned: BoolArray | None = None) -> Choices:
        """Return a choice between no and yes for each row and learned label [M, 2], M at most N K."""
        known = np.ones(truth.shape, bool) if learned is None else learned
        flat = np.asarray(logits, float)[known]
        return Choices(np.stack([np.zeros_like(flat), flat], 1), truth[known], np.nonzero(known)[0])

    def table(self, truth: IntArray, answers: IntArray, k: int) -> PerClass:
        """Return the figures of each label."""
        return metrics.per_label(truth, answers)

    def counts(self, truth: IntArray, answers: IntArray, k: int) -> Counts:
        """Return the indicators [N, K]."""
        return Counts(truth * answers, truth, answers)

    def figures(
        self, truth: IntArray, answers: IntArray, k: int, groups: IntArray | None = None, *, spread: float = 1.0
    ) -> tuple[Metric, ...]:
        """Return F1 per row, micro-F1, macro-F1 and exact match."""
        labeled = np.asarray((truth | answers).any(1))

        def over(name: str, figure: Callable[[IntArray, IntArray], float]) -> Metric:
            def of(rows: IntArray) -> float:
                return figure(truth[rows], answers[rows])

            return bootstrap(name, of, len(truth), groups=groups, matters=labeled, spread=spread)

        return (
            mean_interval(self.measure, self.scores(truth, answers), groups, spread=spread),
            over("micro-F1", metrics.micro_f1),
            over("macro-F1", metrics.mean_f1),
            mean_interval("exact match", metrics.exact_match(truth, answers), groups, spread=spread),
        )


def best_threshold(values: FloatArray, positive: IntArray) -> float:
    """Return the threshold on values [N] with the highest F1 against the truth [N]: half way to the next lower value."""
    order = np.argsort(-values, kind="stable")
    ranked, hits = values[order], np.cumsum(positive[order])
    if not hits.size or not hits[-1]:
        return 0.0
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + hits[-1])
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # equal values cannot be told apart
    best = int(f1.argmax())
    return float(ranked[best] if best == len(ranked) - 1 else (ranked[best] + ranked[best + 1]) / 2)


ONE_LABEL, ANY_LABELS = OneLabel(), AnyLabels()
