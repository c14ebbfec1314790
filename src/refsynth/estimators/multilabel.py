"""MultiLabelTextClassifier: any number of labels for each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import ClassifierMixin

from refsynth.bundle.model import Answered
from refsynth.core.errors import ArgumentError
from refsynth.core.types import Array, FloatArray, IntArray
from refsynth.data.arguments import LEAST_LABELS, classes_of, filled, labels_of, names_of, same_length, texts_of
from refsynth.data.frame import cells_of, grid_of, header_of, names_in
from refsynth.estimators.base import TextEstimator
from refsynth.estimators.rows import FitRows

MATRIX = "matrix"
_SETS: dict[str, Callable[[list[Any]], Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
"""What holds the labels of a row, by the name under which a fitted estimator remembers it."""


class MultiLabelTextClassifier(ClassifierMixin, TextEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """A classifier that gives each text any number of labels, also none.

    y is an indicator matrix [N, K] of 0 and 1, whose columns may have names, or N collections of labels (lists, tuples, sets).
    Answers go back in the same form. A fit takes minutes, and tells the logger `refsynth` how far it is.

        classifier = refsynth.MultiLabelTextClassifier().fit(texts, [["late", "refund"], [], ...])
        classifier.predict(["it came late, I want my money"])

    Further keys of `task.yaml` go into `settings`, as in `settings={"learners": ["tfidf", "frozen"]}`.

    Attributes:
        classes_: the K labels: the names of the columns, or their numbers; of collections what they hold, sorted.
        model_: the bundle that ships, a `refsynth.Model`: what it predicts tells where it abstains.
        report_: the evidence, a `refsynth.Report`.
    """

    _task = "multilabel"

    score = TextEstimator.score  # of the mixin it reads only what numpy makes an array of

    def predict_proba(self, X: Any) -> FloatArray:
        """Return calibrated probabilities [N, K], each label by itself, in the order of `classes_`.

        Raises:
            NotFittedError: it has not been fitted.
            ArgumentError: something is no text, or an empty one.
        """
        return np.asarray(self._answered(X).probabilities)

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that y may be an indicator matrix."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags

    def _given(self, X: Any, y: Any) -> FitRows:
        texts = filled(texts_of(X))
        labels, classes, form = _read(y)
        same_length(len(texts), labels)
        records = [{"text": text, "label": names_of(row)} for text, row in zip(texts, labels, strict=True)]
        return FitRows(records, labels, form, classes)

    def _classes(self, labels: list[Any]) -> Array:
        return classes_of(labels)

    def _texts(self, X: Any) -> list[str]:
        return texts_of(X)

    def _shown(self, X: Any, found: Answered) -> Any:
        marks = np.asarray(found.answers, int)
        if self._form == MATRIX:
            return marks
        return [_SETS[self._form](self.classes_[row].tolist()) for row in marks.astype(bool)]

    def _score(self, X: Any, y: Any, found: Answered, weights: Array) -> float:
        """Return the share of rows with just the right labels."""
        said, truth = np.asarray(found.answers, int).astype(bool), _matrix(y)
        if truth is None:
            sets = _sets(y)
            same_length(len(said), sets)
            right = [set(self.classes_[row].tolist()) == set(given) for row, given in zip(said, sets, strict=True)]
        else:
            same_length(len(said), truth)
            if truth.shape[1] != said.shape[1]:
                raise ArgumentError(f"y: found {truth.shape[1]:,} columns", expected=f"one for each of {said.shape[1]:,} labels")
            right = (said == truth).all(1).tolist()
        return float(np.average(right, weights=weights))


def _read(y: Any) -> tuple[list[Sequence[Any]], Array | None, str]:
    """Return the labels of each row [N], the classes [K] where y is a matrix, and the form in which they are given.

    Raises:
        ArgumentError: it is neither a matrix nor a column of collections; or a label is none.
    """
    if (marks := _matrix(y)) is not None:
        if marks.shape[1] < LEAST_LABELS:
            raise ArgumentError(
                f"y: found {marks.shape[1]} column", expected="a column for each of at least two labels (classes)"
            )
        header = header_of(y)
        classes = np.arange(marks.shape[1]) if header is None else np.array(header)
        return [classes[row].tolist() for row in marks.astype(bool)], classes, MATRIX
    sets = _sets(y)
    labels_of([label for given in sets for label in given])  # sees that all are of one type
    form = type(cells_of(y, "y")[0]).__name__ if sets else MATRIX
    return [sorted(given) for given in sets], None, form


def _matrix(y: Any) -> IntArray | None:
    """Return an indicator matrix [N, K]; None where y is no matrix, but a column of collections.

    Raises:
        ArgumentError: it is a matrix of other numbers than 0 and 1.
    """
    if scipy.sparse.issparse(y):
        y = y.toarray()
    if isinstance(y, (list, tuple)):
        if not _is_marks(y):
            return None
    elif not (getattr(y, "ndim", 1) == 2 or len(names_in(y) or ()) > 1):
        return None
    grid = grid_of(y, "y")
    bad = next(((row, column) for (row, column), value in np.ndenumerate(grid) if not _is_mark(value)), None)
    if bad is not None:
        found = f"y[{bad[0]}, {bad[1]}]: found {str(grid[bad])[:40]!r}"
        raise ArgumentError(found, expected="0 or 1 in a matrix of labels", remedy="or give each row its labels as a list")
    return grid.astype(int)


def _is_marks(y: Sequence[Any]) -> bool:
    """Return whether lists are the rows of a matrix: as scikit-learn has it, of one length above 1, and of 0 and 1 alone."""
    rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in y]
    if not rows or not all(isinstance(row, (list, tuple)) and len(row) == len(rows[0]) > 1 for row in rows):
        return False
    return all(_is_mark(value) for row in rows for value in row)


def _is_mark(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)) and value in (0, 1)


def _sets(y: Any) -> list[list[Any]]:
    """Return the labels of each row [N].

    Raises:
        ArgumentError: a row is no collection of labels.
    """
    cells = cells_of(y, "y")
    for place, cell in enumerate(cells):
        if not isinstance(cell, (list, tuple, set, frozenset)):
            found = f"{cell!r}"[:60] if isinstance(cell, str) else type(cell).__name__
            raise ArgumentError(f"y[{place}]: found {found}", expected="a list of labels, such as ['a', 'b'], [] for none")
    return [list(cell) for cell in cells]
