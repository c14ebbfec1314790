"""scikit-learn's own checks of an estimator, with its matrices of numbers written as texts.

Of an estimator that takes no matrix scikit-learn runs no check. So the checks run on an estimator that writes each row of
numbers as a text of words and is otherwise `TextClassifier`. What cannot hold of texts is declared below, each with its reason:
an undeclared failure fails the test, and so does a declared failure that passes.
"""

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator, parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

import refsynth

QUICK = {"language": "en", "reference": "echo", "learners": ["tfidf"]}

DECLARED = {
    "check_complex_data": "all numbers are refused as no texts, complex ones with the same words",
    "check_dtype_object": "a dict in a matrix is refused as no text, by a ValueError; the check wants the TypeError of numpy",
    "check_estimators_empty_data_messages": "X has one column, so a message on 0 features and their least number says nothing",
    "check_estimators_nan_inf": "NaN is refused as no text; that a matrix may hold it or not is no question for texts",
    "check_fit2d_predict1d": "X is one column, so a row of a matrix is refused as no texts; to reshape it would not help",
}


class Written(refsynth.TextClassifier):
    """Takes matrices of numbers: each number is a word that names its column and, rounded, its value."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.one_d_array = tags.input_tags.string = False
        return tags

    def fit(self, X, y, sample_weight=None):
        texts = written(X)
        fitted = super().fit(texts, y, sample_weight)
        validate_data(self, X, skip_check_array=True)  # the columns of the check are counted as scikit-learn does
        return fitted

    def _answered(self, X):
        check_is_fitted(self)
        validate_data(self, X, skip_check_array=True, reset=False)
        return super()._answered(written(X))


def written(X):
    """Return a matrix of finite numbers as texts; anything else as it is."""
    numbers = X if isinstance(X, list) or scipy.sparse.issparse(X) else np.asarray(X)
    try:
        numbers = np.asarray(numbers, float) if np.isrealobj(numbers) else np.zeros(0)
    except (TypeError, ValueError):
        return X
    if numbers.ndim != 2 or not numbers.size or not np.isfinite(numbers).all():
        return X
    return [" ".join(f"{chr(97 + at % 26)}{round(4 * value)}" for at, value in enumerate(row)) for row in numbers]


@pytest.fixture(autouse=True)
def _quick(tiny_cache, monkeypatch):
    """No page is drawn: a fit is then three times as fast, and the report is there as values."""
    monkeypatch.setenv("REFSYNTH_CACHE", str(tiny_cache))
    monkeypatch.setattr("refsynth.pipeline.report.render_html", lambda *given, **named: "")
    monkeypatch.setattr("refsynth.pipeline.report.render_markdown", lambda *given, **named: "")


@parametrize_with_checks(
    [Written(drafts=0, settings=QUICK)], expected_failed_checks=lambda estimator: DECLARED, xfail_strict=True
)
def test_what_scikit_learn_checks(estimator, check):
    check(estimator)


def test_of_a_matrix_scikit_learn_checks_nothing_of_ours_by_itself():
    with pytest.warns(SkipTestWarning, match="Can't test estimator TextClassifier"):
        check_estimator(refsynth.TextClassifier())


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_check_is_one_that_runs(name):
    assert name in {getattr(check, "func", check).__name__ for _, check in estimator_checks_generator(Written())}
