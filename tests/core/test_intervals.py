"""Intervals against closed forms and references of their own, and against how often they cover what they should."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refsynth.core.intervals import (
    INTERVALS,
    accuracy_interval,
    bootstrap,
    cross_validated,
    exceeds_doubt,
    mean_interval,
    paired_gain,
    share_of,
    wilson,
)
from refsynth.core.labelset import NONE
from refsynth.core.types import Metric
from refsynth.kinds import KINDS

Z = stats.norm.ppf(0.975)
CELLS = st.integers(0, 60)
SCORES = st.lists(st.sampled_from([0.0, 1 / 3, 0.5, 1.0]), min_size=1, max_size=40)
LABELLED = st.lists(st.tuples(st.sampled_from([0.0, 1 / 3, 0.5, 1.0]), st.integers(0, 9)), min_size=1, max_size=40)
SAMPLES = 1000


def wilson_by_roots(share, n):
    """The shares p with (share - p)^2 = z^2 p (1 - p) / n: the ends of the set that a score test does not refuse."""
    return sorted(np.roots([1 + Z**2 / n, -2 * share - Z**2 / n, share**2]).real)


def agresti_min(gained, lost, rest):
    """Half a pair added to each of the four cells of the table, then the interval of Wald (Agresti and Min, 2005, section 3)."""
    n = gained + lost + rest + 2
    up, down = (gained + 0.5) / n, (lost + 0.5) / n
    half = Z * np.sqrt((up + down - (up - down) ** 2) / n)
    return up - down - half, up - down + half


def bounds(metric: Metric) -> tuple[float, float]:
    return metric.low, metric.high


@settings(deadline=None)
@given(st.integers(1, 400), st.data())
def test_a_share_has_the_interval_of_wilson(n, data):
    right = data.draw(st.integers(0, n))
    row = np.arange(n) < right
    low, high = wilson_by_roots(right / n, n)
    expected = pytest.approx((max(low, 0), min(high, 1)), abs=1e-6)  # roots of a quadratic with two equal ends are that exact
    assert wilson(right / n, n) == expected
    assert bounds(mean_interval("share", row)) == expected
    assert bounds(accuracy_interval(np.ones(n, int), row.astype(int))) == expected
    theirs = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert bounds(share_of("share", right / n, n)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert bounds(mean_interval("share", row)) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_sixteen_of_sixteen_is_not_certain():
    metric = accuracy_interval(np.ones(16, int), np.ones(16, int))
    assert (metric.name, metric.value, metric.high, metric.n) == ("accuracy", 1.0, 1.0, 16)
    assert metric.low == pytest.approx(16 / (16 + Z**2)) == pytest.approx(0.806, abs=5e-4)
    other = mean_interval("accuracy", np.zeros(16))
    assert bounds(other) == pytest.approx((0, 1 - metric.low))


@given(CELLS, CELLS, CELLS)
def test_a_paired_gain_has_the_interval_of_agresti_and_min(gained, lost, rest):
    n = gained + lost + rest
    if not n:
        return
    base = np.repeat([0, 1, 1], [gained, lost, rest])
    other = np.repeat([1, 0, 1], [gained, lost, rest])
    gain = paired_gain(base, other)
    low, high = agresti_min(gained, lost, rest)
    assert gain.value == pytest.approx((gained - lost) / n)
    assert bounds(gain) == pytest.approx((max(-1, min(low, gain.value)), min(1, max(high, gain.value))), abs=1e-12)
    assert (gain.name, gain.n) == ("gain", n)


def test_a_gain_without_a_row_that_differs_is_not_certain():
    gain = paired_gain(np.ones(16), np.ones(16))
    assert (gain.value, gain.low, gain.high) == pytest.approx((0, -1.96 / 18, 1.96 / 18), abs=1e-5)


def test_pairing_sees_what_the_columns_do_not():
    """Rows differ much, the difference little; a constant gain is not certain either."""
    base = np.random.default_rng(4).random(50)
    gain = paired_gain(base, base + 0.25)
    assert gain.value == pytest.approx(0.25)
    assert 0.1 < gain.low < 0.25 <= gain.high < 0.4
    assert paired_gain(np.array([True, False]), np.array([True, True])).value == 0.5


def test_paired_gain_refuses_unpaired_rows():
    with pytest.raises(ValueError, match="shape"):
        paired_gain(np.zeros(1), np.zeros(5))


def test_groups_are_of_the_same_rows():
    for make in MADE:
        with pytest.raises(ValueError, match="3 groups for 5 rows"):
            make(np.zeros(5), np.zeros(3, int))


def mean_of(scores, groups=None):
    return mean_interval("mean", scores, groups)


def gain_of(scores, groups=None):
    return paired_gain(np.full(len(scores), 0.5), scores, groups)


def bootstrap_of(scores, groups=None):
    return bootstrap("mean", lambda rows: float(scores[rows].mean()), len(scores), groups=groups)


MADE: list[Callable[..., Metric]] = [mean_of, gain_of, bootstrap_of]


@pytest.mark.parametrize("make", MADE)
@settings(deadline=None, max_examples=15)
@given(LABELLED)
def test_no_interval_has_width_zero_and_all_hold_their_value(make, rows):
    scores, groups = map(np.array, zip(*rows, strict=True))
    metric = make(scores, groups)
    assert -1 <= metric.low <= metric.value <= metric.high <= 1
    assert metric.high - metric.low > 0.01
    assert metric.n == len(rows)


@pytest.mark.parametrize("make", MADE)
@settings(deadline=None, max_examples=15)
@given(SCORES, st.integers(2, 5))
def test_copies_of_each_row_tell_no_more_than_the_rows(make, scores, times):
    rows = np.array(scores)
    whole = make(np.repeat(rows, times), np.repeat(np.arange(len(rows)), times))
    alone = make(rows)
    assert (whole.value, whole.low, whole.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-9)
    assert whole.n == times * alone.n


@pytest.mark.parametrize("make", MADE)
@settings(deadline=None, max_examples=15)
@given(LABELLED, st.integers(0, 99))
def test_what_groups_are_called_does_not_matter(make, rows, seed):
    scores, groups = map(np.array, zip(*rows, strict=True))
    named = np.random.default_rng(seed).permutation(10)[groups]
    assert make(scores, groups) == make(scores, named)


@settings(deadline=None)
@given(LABELLED)
def test_groups_never_make_an_interval_narrower(rows):
    scores, groups = map(np.array, zip(*rows, strict=True))
    for make in (mean_of, gain_of):
        alone, joined = make(scores), make(scores, groups)
        assert joined.high - joined.low >= alone.high - alone.low - 1e-12


def test_scores_that_vary_less_than_right_and_wrong_have_narrower_intervals_up_to_a_quarter():
    rng = np.random.default_rng(0)
    scores = 0.5 + 0.3 * rng.choice([-1, 1], 200)  # a variance of 0.09 against 0.25
    found = mean_of(scores)
    spread = ((scores - scores.mean()) ** 2).mean() / (found.value * (1 - found.value))
    assert bounds(found) == pytest.approx(wilson(found.value, 200 / spread))
    assert bounds(mean_of(np.full(10, 0.5))) == pytest.approx(wilson(0.5, 40))


def test_scores_beyond_0_and_1_vary_more_than_right_and_wrong():
    """Linearised scores of which few rows tell anything: their interval is that of a mean, not that of a share."""
    rng = np.random.default_rng(1)
    scores = np.full(400, 0.6)
    scores[:40] += 10 * rng.permutation(np.repeat([-0.3, 0.3], 20))
    found = mean_of(scores)
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * scores.std() / 20, rel=0.05)


def test_the_rows_that_matter_are_those_that_count():
    """Of 100 rows three say anything, and all are right: that is three of three."""
    matters = np.arange(100) < 3
    found = bootstrap("precision", lambda rows: float(rows.size > 0), 100, matters=matters)
    assert (found.value, found.low, found.high, found.n) == (1.0, *wilson(1.0, 3), 100)
    nothing = bootstrap("precision", lambda rows: 0.0, 100, matters=np.zeros(100, bool))
    assert (nothing.value, nothing.low, nothing.high, nothing.n) == (0.0, 0.0, 1.0, 100)
    groups = np.arange(100) // 2
    assert bounds(bootstrap("precision", lambda rows: 1.0, 100, groups=groups, matters=matters)) == wilson(1.0, 2)


def test_bootstrap_of_a_mean_against_the_normal_interval():
    """For 400 rows the percentile interval of a mean is close to mean +- 1.96 standard errors."""
    values = np.random.default_rng(3).normal(2.0, 1.0, 400)
    metric = bootstrap("mean", lambda rows: float(values[rows].mean()), 400, seed=5)
    error = values.std(ddof=1) / 20
    assert metric.value == pytest.approx(values.mean())
    assert metric.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert metric.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_bootstrap_draws_whole_groups():
    groups = np.array([3, 0, 3, 7, 0, 3])
    seen = []
    bootstrap("none", lambda rows: float(seen.append(rows) or len(rows)), 6, groups=groups)
    for rows in seen:
        counts = np.bincount(rows, minlength=6)
        assert all(len(set(counts[groups == group])) == 1 for group in (0, 3, 7))
    assert {len(rows) for rows in seen} == {3, 4, 5, 6, 7, 8, 9}  # three draws of groups of 3, 2 and 1


def test_bootstrap_is_a_function_of_its_seed():
    values = np.random.default_rng(0).random(30)

    def interval(seed):
        return bootstrap("mean", lambda rows: float(values[rows].mean()), 30, seed=seed)

    assert interval(1) == interval(1)
    assert interval(1) != interval(2)


def test_one_row_more_is_no_gain_beyond_doubt():
    assert not exceeds_doubt(np.eye(16)[0], doubt=1.0)
    assert exceeds_doubt(np.eye(16)[:2].sum(0), doubt=1.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n", [0, 1])
def test_what_has_no_standard_error_exceeds_none(n):
    assert not exceeds_doubt(np.ones(n), doubt=0.0)


LABELS = ["a", "b", "c"]
GIVEN = {"classify": LABELS, "multilabel": ["a + b", "c", NONE], "tokens": ["0-1:a 3-5:b", "2-3:c", NONE]}


def answered(task, n, seed, share):
    """Truth and answers of n rows, of which about a share is right."""
    rng, kind = np.random.default_rng(seed), KINDS[task]
    rows, others = rng.choice(GIVEN[task], (2, n))
    said = np.where(rng.random(n) < share, rows, others)
    return kind, kind.truth(rows.tolist(), LABELS), kind.truth(said.tolist(), LABELS)


@pytest.mark.parametrize("task", GIVEN)
@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_no_figure_of_any_kind_is_certain(task, share, seed):
    kind, truth, answers = answered(task, 16, seed, share)
    for figure in kind.figures(truth, answers, 3):
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert figure.high - figure.low > 0.15
        assert figure.n == 16
        if share == 1:
            assert figure.low <= wilson(1.0, 16)[0]
    assert kind.figures(truth, answers, 3)[0].value == pytest.approx(kind.scores(truth, answers).mean())


@pytest.mark.parametrize("task", GIVEN)
@pytest.mark.parametrize("share", [0.6, 1.0])
def test_figures_of_copies_are_those_of_the_rows(task, share):
    kind, truth, answers = answered(task, 20, 0, share)
    copied = kind.figures(np.repeat(truth, 3, axis=0), np.repeat(answers, 3, axis=0), 3, np.repeat(np.arange(20), 3))
    for figure, alone in zip(copied, kind.figures(truth, answers, 3), strict=True):
        assert (figure.name, figure.n) == (alone.name, 60)
        assert (figure.value, figure.low, figure.high) == pytest.approx((alone.value, alone.low, alone.high), abs=1e-9)


def test_rows_without_a_span_are_no_evidence_of_spans():
    """Four spans are found in four rows; 96 rows have none, and none is found there."""
    kind = KINDS["tokens"]
    truth = kind.truth(["0-1:a"] * 4 + [NONE] * 96, LABELS)
    figures = {figure.name: figure for figure in kind.figures(truth, truth, 3)}
    for name in ("span F1", "precision", "recall", "macro-F1"):
        assert (figures[name].value, figures[name].low, figures[name].n) == pytest.approx((1, wilson(1.0, 4)[0], 100))
    assert figures["exact match"].low == pytest.approx(wilson(1.0, 100)[0])
    nothing = kind.figures(truth[4:], truth[4:], 3)[0]
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 1)


def coverage(truth, metrics):
    return float(np.mean([metric.low <= value <= metric.high for value, metric in zip(truth, metrics, strict=True)]))


def near(p, size, rng):
    """Shares near p: a single one meets the steps of a binomial at random, and covers from 87% to 99%."""
    half = min(0.1, 1 - p)
    return rng.uniform(p - half, p + half, size)


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("n", [16, 64, 256])
@pytest.mark.parametrize("p", [0.5, 0.8, 0.95])
def test_the_interval_of_a_mean_covers_as_often_as_it_says(p, n, copies):
    rng = np.random.default_rng([n, copies, int(100 * p)])
    truth = near(p, SAMPLES, rng)
    drawn = np.repeat(rng.random((SAMPLES, n // copies)) < truth[:, None], copies, axis=1).astype(float)
    groups = np.arange(n) // copies
    assert 0.93 <= coverage(truth, [mean_of(scores, groups) for scores in drawn]) <= 0.99
    if copies > 1:
        assert coverage(truth, [mean_of(scores) for scores in drawn]) < 0.85  # were rows independent


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("n", [64, 256])
def test_the_interval_of_a_mean_of_fractions_covers_too(n, copies):
    """Means over three repeats, as of cross-validation; some of a group's rows differ. Of 16 groups it is 93%, of 64 95%."""
    rng = np.random.default_rng([n, copies])
    ease = rng.beta(4, 1, (SAMPLES, n // copies))  # of a group: its rows are as easy as each other
    drawn = rng.binomial(3, np.repeat(ease, copies, axis=1)) / 3
    truth = np.full(SAMPLES, 0.8)
    assert 0.92 <= coverage(truth, [mean_of(scores, np.arange(n) // copies) for scores in drawn]) <= 0.99


@pytest.mark.parametrize("copies", [1, 4])
@pytest.mark.parametrize("n", [16, 64, 256])
@pytest.mark.parametrize(("gained", "lost"), [(0.0, 0.0), (0.03, 0.03), (0.15, 0.05), (0.3, 0.3)])
def test_the_interval_of_a_gain_covers_as_often_as_it_says(gained, lost, n, copies):
    rng = np.random.default_rng([n, copies, int(100 * gained), int(100 * lost)])
    drawn = rng.choice([1.0, -1.0, 0.0], (SAMPLES, n // copies), p=[gained, lost, 1 - gained - lost])
    drawn, groups, base = np.repeat(drawn, copies, axis=1), np.arange(n) // copies, np.zeros(n)
    truth = np.full(SAMPLES, gained - lost)
    assert coverage(truth, [paired_gain(base, other, groups) for other in drawn]) >= 0.93
    if copies > 1 and gained >= 0.15:
        assert coverage(truth, [paired_gain(base, other) for other in drawn]) < 0.85


def test_the_method_is_named_in_one_line():
    assert all(word in INTERVALS for word in ("95%", "Wilson", "Agresti and Min", "bootstrap", "cluster"))
    assert "\n" not in INTERVALS and INTERVALS.endswith(".")


def test_a_cross_validated_score_varies_with_the_rows_that_models_learned_from():
    """Nearest class means of two Gaussian classes in 10 dimensions, 16 rows each: the interval is of the model of all rows."""
    rng, runs = np.random.default_rng(0), 400
    plain, wider = 0, 0
    for _ in range(runs):
        truth, folds = np.arange(32) % 2, np.arange(32) // 2 % 4
        rows = rng.normal(size=(32, 10)) + 0.45 * truth[:, None]
        right = np.zeros(32)
        for fold in range(4):
            out = folds == fold
            right[out] = nearest(rows[~out], truth[~out], rows[out]) == truth[out]
        asked = np.arange(4000) % 2
        accuracy = np.mean(nearest(rows, truth, rng.normal(size=(4000, 10)) + 0.45 * asked[:, None]) == asked)
        for spread in (1.0, cross_validated(4)):
            found = mean_interval("accuracy", right, spread=spread)
            holds = found.low <= accuracy <= found.high
            plain, wider = plain + (holds and spread == 1), wider + (holds and spread > 1)
    assert plain / runs < 0.93 < wider / runs


def nearest(rows, truth, asked):
    means = np.stack([rows[truth == label].mean(0) for label in (0, 1)])
    return ((asked[:, None] - means) ** 2).sum(2).argmin(1)


def test_where_nothing_varies_a_wider_spread_claims_no_less_than_rows_can_prove():
    assert mean_interval("accuracy", np.ones(16), spread=2.33).low == pytest.approx(0.8064, abs=1e-4)
    half = mean_interval("accuracy", np.arange(64) % 2, spread=2.33)
    assert half.high - half.low == pytest.approx(2.33**0.5 * 0.238, rel=0.05)
