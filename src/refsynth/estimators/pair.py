"""TextPairClassifier: one label for each pair of texts."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from refsynth.core.pair import join_pair
from refsynth.data.arguments import filled, texts_of
from refsynth.data.frame import pairs_of
from refsynth.estimators.classifier import OneLabelEstimator
from refsynth.estimators.rows import FitRows


class TextPairClassifier(OneLabelEstimator):
    """A classifier of pairs of texts: does the second follow from the first, do both report the same fault?

    X [N, 2] is a table of two columns (of numpy, pandas, polars, Arrow or `datasets`), or a sequence of pairs. Labels y [N] are
    strings, integers or booleans. A fit takes minutes and logs its progress to the logger `refsynth`.

        classifier = refsynth.TextPairClassifier(labels={"same": "both report one fault", "other": "they report two"})
        classifier.fit([("no light", "it stays dark"), ...], ["same", ...])

    Further keys of `task.yaml` go into `settings`, as in `settings={"learners": ["tfidf"]}`.

    Attributes:
        classes_: the K labels, sorted, as they were given.
        model_: the bundle that ships, a `refsynth.Model`; it takes a pair as `refsynth.join_pair(first, second)`.
        report_: the evidence, a `refsynth.Report`.
    """

    _task = "pairs"
    _columns = MappingProxyType({"pair": "text_pair"})
    _width = 2

    def _fit_rows(self, X: Any, y: Any) -> FitRows:
        halves = [filled(half, f"X[:, {side}]") for side, half in enumerate(_halves(X))]
        return self._rows([{"text": first, "text_pair": second} for first, second in zip(*halves, strict=True)], y)

    def _texts(self, X: Any) -> list[str]:
        return [join_pair(first, second) for first, second in zip(*_halves(X), strict=True)]


def _halves(X: Any) -> tuple[list[str], list[str]]:
    """Return the first and the second texts [N].

    Raises:
        ArgumentError: X does not hold pairs, or part of a pair is not a text.
    """
    pairs = pairs_of(X, "X")
    first, second = (texts_of([pair[side] for pair in pairs], f"X[:, {side}]") for side in (0, 1))
    return first, second
