"""Every figure of merit against scikit-learn, scipy or a closed form."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn import metrics as reference

from refsynth.core.intervals import wilson
from refsynth.kinds import metrics


def rows_of(k):
    return st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=60)


def arrays(pairs):
    truth, predicted = np.array(pairs).T
    return truth, predicted


def probabilities(seed, n, k):
    rng = np.random.default_rng(seed)
    return rng.integers(0, k, n), rng.dirichlet(np.full(k, 0.4), n)


@settings(deadline=None)
@given(rows_of(5))
def test_labels_against_scikit_learn(pairs):
    truth, predicted = arrays(pairs)
    assert metrics.accuracy(truth, predicted) == pytest.approx(reference.accuracy_score(truth, predicted))
    table = metrics.confusion(truth, predicted, 5)
    np.testing.assert_array_equal(table, reference.confusion_matrix(truth, predicted, labels=range(5)))
    ours = metrics.per_class(truth, predicted, 5)
    theirs = reference.precision_recall_fscore_support(truth, predicted, labels=range(5), zero_division=0)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other)
    expected = reference.f1_score(truth, predicted, average="macro", zero_division=0)
    assert metrics.macro_f1(truth, predicted, 5) == pytest.approx(expected)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int64])
def test_confusion_of_many_labels_in_narrow_integers(kind):
    truth = np.arange(77, dtype=kind)
    table = metrics.confusion(truth, truth[::-1].copy(), 77)
    np.testing.assert_array_equal(table, np.eye(77)[::-1])


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 6))
def test_probabilities_against_scikit_learn(seed, n, k):
    truth, given_ = probabilities(seed, n, k)
    expected = reference.log_loss(truth, np.clip(given_, 1e-12, 1), labels=range(k))
    assert metrics.log_loss(truth, given_) == pytest.approx(expected, abs=1e-9)
    expected = reference.brier_score_loss(truth, given_, labels=range(k), scale_by_half=False)
    assert metrics.brier(truth, given_) == pytest.approx(expected)


def test_log_loss_of_an_impossible_truth_is_finite():
    assert metrics.log_loss(np.array([0]), np.array([[0.0, 1.0]])) == pytest.approx(12 * np.log(10))


@settings(deadline=None)
@given(st.integers(0, 10_000), st.floats(-1e4, 1e4))
def test_softmax_against_scipy(seed, shift):
    logits = np.random.default_rng(seed).normal(scale=30, size=(4, 3)) + shift
    np.testing.assert_allclose(metrics.softmax(logits), special.softmax(logits, axis=-1), atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 80), st.sampled_from([np.float32, np.float64]))
def test_reliability_counts_every_row_in_the_bin_of_its_confidence(seed, n, kind):
    truth, given_ = probabilities(seed, n, 4)
    cells = metrics.reliability(truth, given_.astype(kind))
    assert sum(cell.n for cell in cells) == n
    assert sum(cell.n * cell.accuracy for cell in cells) == pytest.approx(np.sum(given_.argmax(1) == truth))
    assert sum(cell.n * cell.confidence for cell in cells) == pytest.approx(given_.max(1).sum(), rel=1e-5)
    places = [int(10 * cell.confidence) for cell in cells]
    assert all(low <= high for low, high in pairwise(places))


def test_reliability_of_certain_rows():
    cells = metrics.reliability(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    assert cells == [metrics.ReliabilityBin(1.0, 0.5, 2, *wilson(0.5, 2))]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_the_accuracy_of_a_bin_has_the_interval_of_its_groups(seed, n):
    """Twice the same rows are no more rows; and a bin of one row is not certain."""
    truth, given_ = probabilities(seed, n, 3)
    alone = metrics.reliability(truth, given_)
    twice = metrics.reliability(np.repeat(truth, 2), np.repeat(given_, 2, axis=0), np.repeat(np.arange(n), 2))
    np.testing.assert_allclose([cell[-2:] for cell in twice], [cell[-2:] for cell in alone])
    assert all(cell.low <= cell.accuracy <= cell.high and cell.high - cell.low > 0.01 for cell in alone)


def test_calibration_error_by_hand():
    """Two bins: 3 rows at 0.9, 2 of them right; 1 row at 0.6, wrong: (3 |0.9 - 2/3| + 1 |0.6 - 0|) / 4."""
    given_ = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    expected = (3 * abs(0.9 - 2 / 3) + 0.6) / 4
    assert metrics.calibration_error(np.array([0, 0, 1, 1]), given_) == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_risk_coverage_is_what_each_threshold_does(seed, n):
    truth, given_ = probabilities(seed, n, 3)
    given_ = np.round(given_, 1)  # ties
    confidence, wrong = given_.max(1), given_.argmax(1) != truth
    curve = metrics.risk_coverage_of(confidence, ~wrong)
    assert len(curve) == len(set(confidence.tolist()))
    assert curve[-1].coverage == 1
    assert curve[-1].risk == pytest.approx(1 - metrics.accuracy(truth, given_.argmax(1)))
    for point in curve:
        answered = confidence >= point.threshold
        assert point.coverage == pytest.approx(answered.mean())
        assert point.risk == pytest.approx(wrong[answered].mean())
