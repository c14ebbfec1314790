"""Token classification: labeled spans of words, decoded from the tags of all words (`core.chain`), counted as whole spans.

An answer is the row's spans with numbers for labels, as `core.spans` writes them. Precision, recall and F1 are those of conlleval
(Tjong Kim Sang and De Meulder, 2003) and seqeval: a span is correct if its first word, its last word and its label are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from refsynth.core.chain import Chain, best_path
from refsynth.core.intervals import bootstrap, clusters, mean_interval
from refsynth.core.labelset import join_labels
from refsynth.core.spans import UNREAD, Span, join_spans, spans_of, split_spans, tag_names, tags_of
from refsynth.core.types import Array, BoolArray, FloatArray, IntArray, Metric
from refsynth.kinds import metrics
from refsynth.kinds.kind import Choices, Counts
from refsynth.kinds.metrics import PerClass, per_class_of

LEAST_LOG = -700.0
"""The floor of log-probabilities: exp of less is 0 in double precision."""


class Spans:
    """Any number of spans for each text."""

    several = False
    words = True
    measure = "span F1"
    least = 1

    def names(self, label: str) -> tuple[str, ...]:
        """Return the labels of the spans, each once."""
        return tuple(dict.fromkeys(span.label for span in split_spans(label)))

    def group(self, label: str) -> str:
        """Return the set of the spans' labels."""
        names = sorted(self.names(label))
        return join_labels(names, names)

    def truth(self, given: Sequence[str], labels: Sequence[str]) -> Array:
        """Return the spans, with numbers for labels [N]."""
        number = {label: str(index) for index, label in enumerate(labels)}
        return _strings([join_spans(span._replace(label=number[span.label]) for span in split_spans(each)) for each in given])

    def shown(self, answer: Array, labels: Sequence[str]) -> str:
        """Return a row's spans with names for labels."""
        return join_spans(span._replace(label=labels[int(span.label)]) for span in split_spans(str(answer)))

    def probabilities(self, logits: Array) -> Array:
        """Return the softmax of each word."""
        return ragged([metrics.softmax(np.asarray(one, float)) if len(one) else np.asarray(one) for one in logits])

    def logits(self, probabilities: Array) -> Array:
        """Return the logarithms, word by word."""
        return ragged([_logs(one) for one in probabilities])

    def learnable(self, given: Sequence[str], labels: Sequence[str]) -> BoolArray:
        """Return which tags some word has [C]; O counts as always present."""
        spans = [span for label in given for span in split_spans(label)]
        first, further = {span.label for span in spans}, {span.label for span in spans if span.end > span.start + 1}
        return np.array([True, *(label in first for label in labels), *(label in further for label in labels)])

    def answerable(self, logits: Array, truth: Array, learned: BoolArray) -> BoolArray:
        """Return whether the model learned all tags of a row's spans and read all their words [N]."""
        answerable = []
        for one, spans, known in zip(logits, truth, learned, strict=True):
            path = path_of(spans, len(one), _k(one)) if len(one) else np.zeros(0, int)
            answerable.append(bool(known[path].all() and read_of(one)[path > 0].all()))
        return np.array(answerable, bool)

    def thresholds(self, logits: Array, truth: Array, learned: BoolArray | None = None) -> FloatArray | None:
        """Return None, since tags compete."""
        return None

    def decide(self, probabilities: Array, thresholds: FloatArray | None = None) -> Array:
        """Return the spans of the most probable allowed path of tags of each text [N]."""
        return _strings([join_spans(_decoded(one) if len(one) else ()) for one in probabilities])

    def usual(self, truth: Array, n: int) -> Array:
        """Return an answer without spans for each of `n` rows."""
        return _strings([join_spans(())] * n)

    def right(self, truth: Array, answers: Array) -> IntArray:
        """Return whether exactly the true spans are predicted [N]."""
        return np.asarray(truth == answers, int)

    def scores(self, truth: Array, answers: Array) -> FloatArray:
        """Return each row's part in the F1 over all spans [N], by the delta method: F + (2 h - F (t + s)) / mean(t + s).

        h, t and s are a row's correct, true and predicted spans. The mean of the scores is F, since the mean of the second term
        is 0, and their spread gives its standard error.
        """
        counts = count(truth, answers)
        f1, size = counts.f1(), counts.true + counts.predicted
        return np.asarray(f1 + (2 * counts.hits - f1 * size) / size.mean() if size.any() else np.zeros(len(truth)))

    def differences(self, truth: Array, before: Array, after: Array) -> FloatArray:
        """Return 2 (h' - h) - F (s' - s) over mean(t + s) [N], where F and the mean are over both answers together.

        Their mean is (F1' - F1) 4 A B / (A + B)^2, where A and B count all true and predicted spans, before and after.
        """
        old, new = count(truth, before), count(truth, after)
        both = Counts(*(np.concatenate(pair) for pair in zip(old, new, strict=True)))
        gained = 2 * (new.hits - old.hits) - both.f1() * (new.predicted - old.predicted)
        size = both.true + both.predicted
        return np.asarray(gained / size.mean() if size.any() else np.zeros(len(truth)))

    def confidence(self, probabilities: Array, answers: Array) -> FloatArray:
        """Return the probability of each text's path among the allowed paths [N]."""
        rows = zip(probabilities, answers, strict=True)
        return np.array(
            [Chain.of(_logs(one)).path(path_of(answer, len(one), _k(one))) if len(one) else 1.0 for one, answer in rows]
        )

    def choices(self, logits: Array, truth: Array, learned: BoolArray | None = None) -> Choices:
        """Return each word that was read as a choice between C tags, if the model learned its tag."""
        values, paths, rows = [np.zeros((0, 1))], [np.zeros(0, int)], [np.zeros(0, int)]
        for row, (one, spans) in enumerate(zip(logits, truth, strict=True)):
            if not len(one):
                continue
            path = path_of(spans, len(one), _k(one))
            words = read_of(one) if learned is None else read_of(one) & learned[row][path]
            values.append(np.asarray(one, float)[words])
            paths.append(path[words])
            rows.append(np.full(int(words.sum()), row))
        start = int(len(values) > 1)  # the empty part at the front has a different width
        return Choices(*(np.concatenate(part[start:]) for part in (values, paths, rows)))

    def table(self, truth: Array, answers: Array, k: int) -> PerClass:
        """Return the figures of the spans of each label."""
        return per_class_of(*(each.sum(0) for each in self.counts(truth, answers, k)))

    def counts(self, truth: Array, answers: Array, k: int) -> Counts:
        """Return the spans of each row and label [N, K]."""
        table = np.zeros((3, len(truth), k), int)
        for row, (true, answer) in enumerate(zip(truth, answers, strict=True)):
            a, b = set(split_spans(true)), set(split_spans(answer))
            for part, spans in enumerate((a & b, a, b)):
                for span in spans:
                    table[part, row, int(span.label)] += 1
        return Counts(*table)

    def figures(
        self, truth: Array, answers: Array, k: int, groups: IntArray | None = None, *, spread: float = 1.0
    ) -> tuple[Metric, ...]:
        """Return F1, precision and recall of spans, macro-F1 over labels, and exact match of rows.

        Rows without true or predicted spans are left out of the figures of spans.
        """
        counts, by_label, n = count(truth, answers), self.counts(truth, answers, k), len(truth)

        def over(name: str, figure: Callable[[Counts], float], of: Counts, matters: IntArray) -> Metric:
            return bootstrap(name, lambda rows: figure(of.take(rows)), n, groups=groups, matters=matters > 0, spread=spread)

        return (
            self._f1(truth, answers, counts.true + counts.predicted > 0, groups, spread),
            over("precision", lambda of: float(of.hits.sum() / max(of.predicted.sum(), 1)), counts, counts.predicted),
            over("recall", lambda of: float(of.hits.sum() / max(of.true.sum(), 1)), counts, counts.true),
            over("macro-F1", Counts.macro_f1, by_label, counts.true + counts.predicted),
            mean_interval("exact match", self.right(truth, answers), groups, spread=spread),
        )

    def _f1(self, truth: Array, answers: Array, matters: NDArray[np.bool_], groups: IntArray | None, spread: float) -> Metric:
        if not matters.any():
            return Metric(self.measure, 0.0, 0.0, 1.0, len(truth))
        scores = self.scores(truth[matters], answers[matters])
        metric = mean_interval(self.measure, scores, clusters(groups, len(truth))[matters], spread=spread)
        return replace(metric, n=len(truth))


def span_confidences(probabilities: Array, answers: Array) -> FloatArray:
    """Return the probability of each predicted span, row after row [M]."""
    confidences: list[float] = []
    for one, answer in zip(probabilities, answers, strict=True):
        if spans := split_spans(answer):
            chain = Chain.of(_logs(one))
            confidences += [chain.span(start, end, int(label)) for start, end, label in spans]
    return np.array(confidences)


def spans_right(truth: Array, answers: Array) -> IntArray:
    """Return whether each predicted span is true, row after row [M]."""
    rows = [(set(split_spans(true)), split_spans(answer)) for true, answer in zip(truth, answers, strict=True)]
    return np.array([span in true for true, answer in rows for span in answer], int)


def count(truth: Array, answers: Array) -> Counts:
    """Return the spans of each row [N]."""
    rows = [(set(split_spans(true)), set(split_spans(answer))) for true, answer in zip(truth, answers, strict=True)]
    return Counts(*np.array([(len(a & b), len(a), len(b)) for a, b in rows], int).reshape(-1, 3).T)


def read_of(logits: FloatArray) -> BoolArray:
    """Return whether the model read each word, from its logits [T, C]: [T]."""
    return np.asarray((np.asarray(logits)[:, 1:] != UNREAD).any(1) if len(logits) else np.zeros(0, bool))


def path_of(answer: str, n: int, k: int) -> IntArray:
    """Return the numbers of the tags of `n` words [n] that an answer among K labels stands for."""
    tags = {name: index for index, name in enumerate(tag_names([str(label) for label in range(k)]))}
    return np.array([tags[tag] for tag in tags_of(split_spans(str(answer)), n)], int)


def _decoded(probabilities: FloatArray) -> list[Span]:
    """Return the spans of the most probable allowed path of a text's words [T, C]."""
    names = tag_names([str(label) for label in range(_k(probabilities))])
    return spans_of([names[tag] for tag in best_path(_logs(probabilities))])


def _logs(probabilities: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(np.asarray(probabilities, float)), LEAST_LOG))


def _k(rows: FloatArray) -> int:
    return int(rows.shape[1] - 1) // 2


def ragged(parts: Sequence[FloatArray]) -> Array:
    """Return an array [N] of arrays."""
    out = np.empty(len(parts), object)
    for place, part in enumerate(parts):
        out[place] = part
    return out


def _strings(values: Sequence[str]) -> Array:
    return np.array(values, object).reshape(-1)


SPANS = Spans()
