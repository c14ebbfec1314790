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


class OneLabelEstimator(ClassifierMixin, TextEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """What estimators share that give one label to each row, whatever a row is."""

    score = TextEstimator.score  # of the mixin it reads only what numpy makes an array of

    def predict_proba(self, X: Any) -> FloatArray:
        """Return calibrated probabilities [N, K] in the order of `classes_`.

        Raises:
            NotFittedError: it has not been fitted.
            ArgumentError: something is no text, or an empty one.
        """
        return np.asarray(self._answered(X).probabilities)

    def _rows(self, inputs: Sequence[Mapping[str, str]], y: Any) -> FitRows:
        """Return texts, or pairs of them, with their labels [N]."""
        given = labels_of(y)
        if isinstance(y, np.ndarray) and y.ndim == 2:
            said = "A column-vector y was passed when a 1d array was expected. Please change the shape of y with ravel()."
            warnings.warn(said, DataConversionWarning, stacklevel=4)
        same_length(len(inputs), given)
        records = [{**one, "label": [name]} for one, name in zip(inputs, names_of(given), strict=True)]
        return FitRows(records, [[label] for label in given])

    def _classes(self, labels: list[Any]) -> Array:
        return classes_of(labels)

    def _shown(self, X: Any, found: Answered) -> Array:
        return np.asarray(self.classes_[found.answers])

    def _score(self, X: Any, y: Any, found: Answered, weights: Array) -> float:
        truth = labels_of(y)
        same_length(len(found.answers), truth)
        right = [said == meant for said, meant in zip(self.classes_[found.answers].tolist(), truth, strict=True)]
        return float(np.average(right, weights=weights))


class TextClassifier(OneLabelEstimator):
    """A classifier of texts that is trained by a run: drafts of the reference join the rows if held-out rows show that they help.

    Texts X [N] are a list, an array, a series or a column of any library that numpy reads, or a table of one column; labels y [N]
    are words, whole numbers or truth values. A fit takes minutes, and tells the logger `refsynth` how far it is.

        classifier = refsynth.TextClassifier(drafts=1000).fit(texts, labels)
        classifier.predict(["where is my parcel?"])

    Further keys of `task.yaml` go into `settings`, as in `settings={"learners": ["tfidf", "frozen"]}`.

    Attributes:
        classes_: the K labels, sorted, as they were given.
        model_: the bundle that ships, a `refsynth.Model`: what it predicts tells where it abstains.
        report_: the evidence, a `refsynth.Report`.
    """

    _task = "classify"

    def _given(self, X: Any, y: Any) -> FitRows:
        return self._rows([{"text": text} for text in filled(texts_of(X))], y)

    def _texts(self, X: Any) -> list[str]:
        return texts_of(X)
