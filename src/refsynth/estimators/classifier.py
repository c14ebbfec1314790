"""TextClassifier: one label for each text."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.exceptions import DataConversionWarning

from refsynth.bundle.model import Answered
from refsynth.core.types import Array, FloatArray
from refsynth.data.arguments import classes_of, filled, labels_of, names_of, same_length, texts_of
from refsynth.estimators.base import TextEstimator
from refsynth.estimators.rows import FitRows


class LabelEstimator(ClassifierMixin, TextEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """The base of estimators that label whole rows."""

    score = TextEstimator.score  # the mixin's takes only what numpy can turn into an array

    def predict_proba(self, X: Any) -> FloatArray:
        """Return calibrated probabilities [N, K] in the order of `classes_`; with several labels, of each label by itself.

        Raises:
            NotFittedError: the estimator has not been fitted.
            ArgumentError: an item is not a text, or is empty.
        """
        return np.asarray(self._answered(X).probabilities)

    def _classes(self, labels: list[Any]) -> Array:
        return classes_of(labels)


class OneLabelEstimator(LabelEstimator):
    """The base of estimators that give each row, a text or a pair of texts, one label."""

    def _rows(self, inputs: Sequence[Mapping[str, str]], y: Any) -> FitRows:
        """Return the columns of N inputs together with their labels."""
        labels = labels_of(y)
        if isinstance(y, np.ndarray) and y.ndim == 2:
            message = "A column-vector y was passed when a 1d array was expected. Please change the shape of y with ravel()."
            warnings.warn(message, DataConversionWarning, stacklevel=4)
        same_length(len(inputs), labels)
        records = [{**one, "label": [name]} for one, name in zip(inputs, names_of(labels), strict=True)]
        return FitRows(records, [[label] for label in labels])

    def _as_given(self, X: Any, predicted: Answered) -> Array:
        return np.asarray(self.classes_[predicted.answers])

    def _score(self, X: Any, y: Any, predicted: Answered, weights: Array) -> float:
        truth = labels_of(y)
        labels = self.classes_[predicted.answers].tolist()
        same_length(len(labels), truth)
        return float(np.average([label == true for label, true in zip(labels, truth, strict=True)], weights=weights))


class TextClassifier(OneLabelEstimator):
    """A text classifier that a run trains. Drafts of the reference join the rows if held-out rows show that they help.

    Texts X [N] are a list, an array, a series or a column of any library that numpy reads, or a table of one column. Labels y [N]
    are strings, integers or booleans. A fit takes minutes and logs its progress to the logger `refsynth`.

        classifier = refsynth.TextClassifier(drafts=1000).fit(texts, labels)
        classifier.predict(["where is my parcel?"])

    Further keys of `task.yaml` go into `settings`, as in `settings={"learners": ["tfidf", "frozen"]}`.

    Attributes:
        classes_: the K labels, sorted, as they were given.
        model_: the bundle that ships, a `refsynth.Model`; its predictions tell where it abstains.
        report_: the evidence, a `refsynth.Report`.
    """

    _task = "classify"

    def _fit_rows(self, X: Any, y: Any) -> FitRows:
        return self._rows([{"text": text} for text in filled(texts_of(X))], y)

    def _texts(self, X: Any) -> list[str]:
        return texts_of(X)
