"""Temperature and threshold against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refsynth.evaluation.calibration import FLOOR, LIMITS, fit_temperature, risk_bound, threshold_of
from refsynth.kinds import metrics


def two_class(n, right, gap=3.0):
    """Rows that all claim class 0 by a gap of logits; `right` of them are."""
    return np.tile([gap, 0.0], (n, 1)), (np.arange(n) >= right).astype(int)


@settings(deadline=None)
@given(st.integers(2, 300), st.data(), st.floats(0.5, 8))
def test_temperature_of_one_margin_has_a_closed_form(n, data, gap):
    """With one gap g, softmax(g / T) must be the smoothed share p (1 - e) + (1 - p) e, e = 1 / (N + 2), so T = g / logit."""
    right = data.draw(st.integers(n // 2 + 1, n))
    share, smooth = right / n, 1 / (n + 2)
    target = share * (1 - smooth) + (1 - share) * smooth
    expected = np.clip(gap / np.log(target / (1 - target)), *LIMITS)
    assert fit_temperature(*two_class(n, right, gap)) == pytest.approx(expected, rel=1e-3)


def test_temperature_of_rows_all_right_stays_modest():
    """N rows, all right: confidence 1 - 1 / (N + 2), not certainty."""
    logits, truth = two_class(18, 18)
    confidence = metrics.softmax(logits / fit_temperature(logits, truth)).max(1)
    np.testing.assert_allclose(confidence, 19 / 20, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_temperature_recovers_the_scale_that_was_applied(scale):
    """Labels drawn from softmax(z); the model says scale * z: T = scale, up to sampling."""
    rng = np.random.default_rng(7)
    logits = 2 * rng.normal(size=(4000, 5))
    truth = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    assert fit_temperature(scale * logits, truth) == pytest.approx(scale, rel=0.06)


def test_temperature_lowers_the_calibration_error_and_keeps_the_answers():
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(800, 4))
    truth = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    loud = 6 * logits
    calm = loud / fit_temperature(loud, truth)
    before, after = (metrics.calibration_error(truth, metrics.softmax(each)) for each in (loud, calm))
    assert after < before / 4
    np.testing.assert_array_equal(loud.argmax(1), calm.argmax(1))


def test_temperature_without_evidence_is_one():
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1
    assert fit_temperature(np.full((5, 3), 2.0), np.zeros(5, int)) == 1


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(1e-3, 1e3))
def test_temperature_stays_within_its_limits(seed, n, scale):
    rng = np.random.default_rng(seed)
    temperature = fit_temperature(scale * rng.normal(size=(n, 3)).astype(np.float32), rng.integers(0, 3, n))
    assert LIMITS[0] <= temperature <= LIMITS[1]


@settings(deadline=None)
@given(st.integers(1, 200), st.data())
def test_risk_bound_against_scipy(answered, data):
    errors = data.draw(st.integers(0, answered))
    expected = stats.binomtest(errors, answered, alternative="less").proportion_ci(0.9, method="exact").high
    assert risk_bound(errors, answered) == pytest.approx(expected)


def test_risk_bound_without_errors_has_a_closed_form():
    assert risk_bound(0, 20) == pytest.approx(1 - 0.1 ** (1 / 20))


def test_threshold_answers_everything_when_all_is_right():
    chosen = threshold_of(np.ones(100, bool), np.linspace(0.6, 0.99, 100), target=0.9)
    assert (chosen.threshold, chosen.coverage, chosen.risk, chosen.basis) == (0.0, 1.0, 0.0, "measured")
    assert chosen.risk_high == pytest.approx(1 - 0.1 ** (1 / 100))


def test_threshold_goes_as_low_as_the_answers_are_right():
    """200 rows, the 60 least confident wrong: with e errors among 140 + e answers the share passes 0.1 between e = 15 and 16."""
    confidences = np.linspace(0.99, 0.51, 200)
    chosen = threshold_of(np.arange(200) < 140, confidences, target=0.9)
    assert chosen.coverage == pytest.approx(155 / 200)
    assert chosen.threshold == pytest.approx(confidences[154])
    assert (chosen.basis, chosen.risk) == ("measured", pytest.approx(15 / 155))
    assert chosen.risk_high == pytest.approx(stats.beta.ppf(0.9, 16, 140))


@pytest.mark.parametrize("copies", [2, 5, 20])
def test_the_rule_is_the_same_however_many_rows_there_are(copies):
    """The same shares of right answers give the same threshold: no rule takes over where rows are enough to prove something."""
    right, confidences = np.arange(20) < 17, np.linspace(0.95, 0.55, 20)
    once, often = (threshold_of(np.repeat(right, n), np.repeat(confidences, n)) for n in (1, copies))
    assert (often.threshold, often.basis) == (once.threshold, once.basis)
    assert often.coverage == pytest.approx(once.coverage)


def test_threshold_of_few_rows():
    """10 rows, the 3 least confident wrong: no bound reaches 0.1, and 7 rows are answered without error."""
    chosen = threshold_of(np.arange(10) < 7, np.linspace(0.95, 0.5, 10), target=0.9)
    assert (chosen.coverage, chosen.risk, chosen.basis) == (0.7, 0.0, "measured")


def test_threshold_of_a_hopeless_model_still_answers_half():
    chosen = threshold_of(np.zeros(40, bool), np.linspace(0.95, 0.5, 40), target=0.9)
    assert (chosen.coverage, chosen.risk, chosen.basis) == (0.5, 1.0, "floor")


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.floats(0.5, 1.0))
def test_threshold_never_falls_silent_and_tells_what_it_does(seed, n, target):
    rng = np.random.default_rng(seed)
    truth, given_ = rng.integers(0, 3, n), np.round(rng.dirichlet(np.ones(3), n), 2)
    chosen = threshold_of(given_.argmax(1) == truth, given_.max(1), target=target)
    answered = given_.max(1) >= chosen.threshold
    assert answered.mean() == pytest.approx(chosen.coverage)
    assert chosen.coverage >= FLOOR
    assert (given_.argmax(1) != truth)[answered].mean() == pytest.approx(chosen.risk)
    assert chosen.risk <= chosen.risk_high
    assert chosen.basis == "floor" or chosen.risk <= 1 - target + 1e-9


@pytest.mark.parametrize("n", [40, 150, 600])
def test_threshold_keeps_its_promise_on_fresh_rows(n):
    """Calibrated, so the true accuracy above t is (1 + t) / 2: over 200 draws it is the target on average, within half a point
    for each standard error of so few rows; and more rows never mean more silence."""
    rng = np.random.default_rng(9)
    kept, answered = [], []
    for _ in range(200):
        confidence = rng.uniform(0.5, 1, n)
        chosen = threshold_of(rng.random(n) < confidence, confidence, target=0.8)
        kept.append((1 + max(chosen.threshold, 0.5)) / 2)
        answered.append(chosen.coverage)
    assert np.mean(kept) == pytest.approx(0.8, abs=0.02)
    assert np.mean(answered) == pytest.approx(0.8, abs=0.06)  # above t = 0.6 are 80% of the rows
