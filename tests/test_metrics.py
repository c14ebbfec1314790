"""Every figure of merit against scikit-learn, scipy or a closed form."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics as reference

from refsynth import metrics


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
    assert cells == [metrics.ReliabilityBin(1.0, 0.5, 2)]


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
    curve = metrics.risk_coverage(truth, given_)
    assert len(curve) == len(set(confidence.tolist()))
    assert curve[-1].coverage == 1
    assert curve[-1].risk == pytest.approx(1 - metrics.accuracy(truth, given_.argmax(1)))
    for point in curve:
        answered = confidence >= point.threshold
        assert point.coverage == pytest.approx(answered.mean())
        assert point.risk == pytest.approx(wrong[answered].mean())


@settings(deadline=None)
@given(st.integers(1, 400), st.data())
def test_wilson_against_scipy(n, data):
    right = data.draw(st.integers(0, n))
    metric = metrics.accuracy_interval(np.zeros(n, int), (np.arange(n) >= right).astype(int))
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert (metric.low, metric.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= metric.low <= metric.value <= metric.high <= 1
    assert (metric.name, metric.n) == ("accuracy", n)


def test_bootstrap_of_a_mean_against_the_normal_interval():
    """For 400 rows the percentile interval of a mean is close to mean +- 1.96 standard errors."""
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    metric = metrics.bootstrap("mean", lambda rows: float(values[rows].mean()), 400, seed=5)
    error = values.std(ddof=1) / 20
    assert metric.value == pytest.approx(values.mean())
    assert metric.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert metric.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_bootstrap_is_a_function_of_its_seed():
    values = np.random.default_rng(0).random(30)

    def interval(seed):
        return metrics.bootstrap("mean", lambda rows: float(values[rows].mean()), 30, seed=seed)

    assert interval(1) == interval(1)
    assert interval(1) != interval(2)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """Of 100 samples of 60 rows, a 95% interval misses the mean about 5 times; 12 or more has a chance of 0.4%."""
    rng = np.random.default_rng(11)
    misses = 0
    for _ in range(100):
        gain = metrics.paired_gain(np.zeros(60), rng.normal(0.3, 1.0, 60))
        misses += not gain.low <= 0.3 <= gain.high
    assert misses < 12


def test_macro_f1_interval_holds_its_value():
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 4, 80)
    predicted = np.where(rng.random(80) < 0.7, truth, rng.integers(0, 4, 80))
    metric = metrics.macro_f1_interval(truth, predicted, 4)
    assert metric.value == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert metric.low < metric.value < metric.high
    assert metric.n == 80


def test_paired_gain_is_narrower_than_its_parts():
    """Rows differ much, the difference little: pairing must see that. The interval of a constant gain has no width."""
    base = np.random.default_rng(4).random(50)
    gain = metrics.paired_gain(base, base + 0.25)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0.25, 0.25, 0.25))
    assert metrics.paired_gain(base, base).value == 0
    assert metrics.paired_gain(np.array([True, False]), np.array([True, True])).value == 0.5


def test_paired_gain_refuses_unpaired_rows():
    with pytest.raises(ValueError, match="shape"):
        metrics.paired_gain(np.zeros(1), np.zeros(5))
