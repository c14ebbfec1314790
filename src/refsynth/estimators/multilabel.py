"""MultiLabelTextClassifier: any number of labels for each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from refsynth.bundle.model import Answered
from refsynth.core.errors import ArgumentError
from refsynth.core.types import Array, IntArray
from refsynth.data.arguments import LEAST_LABELS, filled, labels_of, names_of, same_length, texts_of
from refsynth.data.frame import cells_of, grid_of, header_of, names_in
from refsynth.estimators.classifier import LabelEstimator
from refsynth.estimators.rows import FitRows

MATRIX = "matrix"
_SETS: dict[str, Callable[[list[Any]], Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
"""The collections that may hold the labels of a row, by the name that a fitted estimator stores as the form of y."""


class MultiLabelTextClassifier(LabelEstimator):
    """A classifier that gives each text any number of labels, including none.

    y is an indicator matrix [N, K] of 0 and 1, whose columns may have names, or N collections of labels (lists, tuples, sets).
    Predictions have the form of y. A fit takes minutes and logs its progress to the logger `refsynth`.

        classifier = refsynth.MultiLabelTextClassifier().fit(texts, [["late", "refund"], [], ...])
        classifier.predict(["it came late, I want my money"])

    Further keys of `task.yaml` go into `settings`, as in `settings={"learners": ["tfidf", "frozen"]}`.

    Attributes:
        classes_: the K labels: the names of the matrix's columns, or their numbers; for collections their labels, sorted.
        model_: the bundle that ships, a `refsynth.Model`; its predictions tell where it abstains.
        report_: the evidence, a `refsynth.Report`.
    """

    _task = "multilabel"

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that y may be an indicator matrix."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags

    def _fit_rows(self, X: Any, y: Any) -> FitRows:
        texts = filled(texts_of(X))
        labels, classes, form = _read(y)
        same_length(len(texts), labels)
        records = [{"text": text, "label": names_of(row)} for text, row in zip(texts, labels, strict=True)]
        return FitRows(records, labels, form, classes)

    def _texts(self, X: Any) -> list[str]:
        return texts_of(X)

    def _as_given(self, X: Any, predicted: Answered) -> Any:
        matrix = np.asarray(predicted.answers, int)
        if self._form == MATRIX:
            return matrix
        return [_SETS[self._form](self.classes_[row].tolist()) for row in matrix.astype(bool)]

    def _score(self, X: Any, y: Any, predicted: Answered, weights: Array) -> float:
        """Return the share of rows whose labels are all correct."""
        matrix, truth = np.asarray(predicted.answers, int).astype(bool), _matrix(y)
        if truth is None:
            sets = _sets(y)
            same_length(len(matrix), sets)
            right = [set(self.classes_[row].tolist()) == set(true) for row, true in zip(matrix, sets, strict=True)]
        else:
            same_length(len(matrix), truth)
            k = matrix.shape[1]
            if truth.shape[1] != k:
                raise ArgumentError(f"y: found {truth.shape[1]:,} columns", expected=f"one for each of {k:,} labels")
            right = (matrix == truth).all(1).tolist()
        return float(np.average(right, weights=weights))


def _read(y: Any) -> tuple[list[Sequence[Any]], Array | None, str]:
    """Return the labels of each row [N], the classes [K] if y is a matrix, and the form of y.

    Raises:
        ArgumentError: y is neither a matrix nor a column of collections, or something in it is not a label.
    """
    if (matrix := _matrix(y)) is not None:
        k = matrix.shape[1]
        if k < LEAST_LABELS:
            raise ArgumentError(f"y: found {k} column", expected="a column for each of at least two labels (classes)")
        header = header_of(y)
        classes = np.arange(k) if header is None else np.array(header)
        return [classes[row].tolist() for row in matrix.astype(bool)], classes, MATRIX
    sets = _sets(y)
    labels_of([label for labels in sets for label in labels])  # checks that all are of one type
    form = type(cells_of(y, "y")[0]).__name__ if sets else MATRIX
    return [sorted(labels) for labels in sets], None, form


def _matrix(y: Any) -> IntArray | None:
    """Return y as an indicator matrix [N, K], or None if y is a column of collections.

    Raises:
        ArgumentError: the matrix has values other than 0 and 1.
    """
    if scipy.sparse.issparse(y):
        y = y.toarray()
    if isinstance(y, (list, tuple)):
        if not _is_matrix(y):
            return None
    elif not (getattr(y, "ndim", 1) == 2 or len(names_in(y) or ()) > 1):
        return None
    grid = grid_of(y, "y")
    bad = next(((row, column) for (row, column), value in np.ndenumerate(grid) if not _is_indicator(value)), None)
    if bad is not None:
        found = f"y[{bad[0]}, {bad[1]}]: found {str(grid[bad])[:40]!r}"
        raise ArgumentError(found, expected="0 or 1 in a matrix of labels", remedy="or give each row its labels as a list")
    return grid.astype(int)


def _is_matrix(y: Sequence[Any]) -> bool:
    """Return whether lists are rows of an indicator matrix, as scikit-learn decides it: one length above 1, only 0 and 1."""
    rows = [row.tolist() if isinstance(row, np.ndarray) else row for row in y]
    if not rows or not all(isinstance(row, (list, tuple)) and len(row) == len(rows[0]) > 1 for row in rows):
        return False
    return all(_is_indicator(value) for row in rows for value in row)


def _is_indicator(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)) and value in (0, 1)


def _sets(y: Any) -> list[list[Any]]:
    """Return the labels of each row [N].

    Raises:
        ArgumentError: a row is not a collection of labels.
    """
    cells = cells_of(y, "y")
    for place, cell in enumerate(cells):
        if not isinstance(cell, (list, tuple, set, frozenset)):
            found = f"{cell!r}"[:60] if isinstance(cell, str) else type(cell).__name__
            raise ArgumentError(f"y[{place}]: found {found}", expected="a list of labels, such as ['a', 'b'], [] for none")
    return [list(cell) for cell in cells]
