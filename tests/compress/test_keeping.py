"""What a form keeps: the ratio of two macro-F1s on the same rows, its interval, and what is paid for a choice among forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.compress.contract import Contract, ModelVariant, search
from refsynth.compress.keeping import DOUBT, Interval, Kept, kept_of
from refsynth.core.labelset import NONE
from refsynth.core.types import Array
from refsynth.kinds import KINDS, Counts, Kind, metrics

WORDS, K = 6, 3


def answers_of(kind: Kind, n: int, rng: np.random.Generator) -> Array:
    if kind.words:
        starts = rng.integers(0, WORDS, n)
        return np.array([f"{start}-{start + 1}:{rng.integers(K)}" if rng.random() < 0.8 else NONE for start in starts], object)
    return rng.integers(0, 2, (n, K)) if kind.several else rng.integers(0, K, n)


def mixed(first: Array, second: Array, share: float, rng: np.random.Generator) -> Array:
    out = np.array(first)
    taken = rng.random(len(out)) < share
    out[taken] = second[taken]
    return out


kinds = st.sampled_from(["classify", "multilabel", "tokens"])


@given(kinds, st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_counts_give_the_macro_f1_of_every_kind(task: str, n: int, seed: int) -> None:
    kind, rng = KINDS[task], np.random.default_rng(seed)  # type: ignore[index]
    truth, said = answers_of(kind, n, rng), answers_of(kind, n, rng)
    if kind.words:
        table = kind.table(truth, said, K)
        occurs = [any(f":{label}" in answer for answer in (*truth, *said)) for label in range(K)]
        expected = table.f1[occurs].mean() if any(occurs) else 0.0
    else:
        expected = metrics.mean_f1(truth, said) if kind.several else metrics.macro_f1(truth, said, K)
    assert kind.counts(truth, said, K).macro_f1() == pytest.approx(expected)


@settings(max_examples=25)
@given(kinds, st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_the_value_is_the_ratio_of_means_over_repeats(task: str, n: int, seed: int) -> None:
    kind, rng = KINDS[task], np.random.default_rng(seed)  # type: ignore[index]
    truth = answers_of(kind, n, rng)
    whole, form = ([mixed(truth, answers_of(kind, n, rng), 0.4, rng) for _ in range(r)] for r in (2, 1))
    means = [np.mean([kind.counts(truth, each, K).macro_f1() for each in some]) for some in (whole, form)]
    kept = kept_of(*([kind.counts(truth, each, K) for each in some] for some in (whole, form)))
    if not means[0]:
        assert kept is None
        return
    assert kept is not None
    assert kept.value == pytest.approx(means[1] / means[0], rel=1e-5)
    assert kept.n == n


def two(right: Array, other: Array) -> tuple[Counts, Counts]:
    """What two models say that are right on some rows, where there are two classes, as often one as the other."""
    truth = np.arange(len(right)) % 2
    kind = KINDS["classify"]
    return kind.counts(truth, np.where(right, truth, 1 - truth), 2), kind.counts(truth, np.where(other, truth, 1 - truth), 2)


def test_whoever_says_the_same_keeps_all_of_it_for_certain() -> None:
    right = np.random.default_rng(0).random(60) < 0.7
    whole, form = two(right, right)
    kept = kept_of([whole], [form])
    assert kept is not None
    assert kept.interval()[:2] == (1.0, 1.0)


def test_pairs_of_rows_make_the_interval_narrow_and_it_has_the_width_of_the_delta_method() -> None:
    """Macro-F1 of balanced classes with symmetric errors is nearly accuracy, whose ratio has a known standard error."""
    rng, n = np.random.default_rng(1), 1000
    right = rng.random(n) < 0.8
    other = right & (rng.random(n) < 0.95)
    a, b = right.mean(), other.mean()
    variance = (b / a) ** 2 * (other.var() / b**2 + right.var() / a**2 - 2 * np.cov(right, other, ddof=0)[0, 1] / (a * b)) / n
    kept = kept_of(*([one] for one in two(right, other)))
    assert kept is not None
    low, high, _, _ = kept.interval()
    assert low < b / a < high
    assert (high - low) / (2 * 1.96 * np.sqrt(variance)) == pytest.approx(1, abs=0.15)
    alone = kept_of(*([one] for one in two(right, rng.permutation(other))))
    assert alone is not None
    assert alone.interval().high - alone.interval().low > 2 * (high - low)


@pytest.mark.slow
def test_intervals_hold_as_often_as_they_say() -> None:
    """The truth is known: the model is right on 0.8 of rows, the form on 0.9 of those; 100 samples of 300 rows."""
    rng, held = np.random.default_rng(2), 0
    for trial in range(100):
        right = rng.random(300) < 0.8
        kept = kept_of(*([one] for one in two(right, right & (rng.random(300) < 0.9))), seed=trial)
        assert kept is not None
        held += kept.interval().low <= 0.9 <= kept.interval().high
    assert 88 <= held <= 100


def test_rows_that_belong_together_are_drawn_together() -> None:
    rng = np.random.default_rng(3)
    right, other = np.repeat(rng.random(30) < 0.8, 10), np.repeat(rng.random(30) < 0.7, 10)
    whole, form = two(right, other)
    groups = np.repeat(np.arange(30), 10)
    apart, together = kept_of([whole], [form]), kept_of([whole], [form], groups=groups)
    assert apart is not None
    assert together is not None
    assert apart.value == pytest.approx(together.value)
    widths = [kept.interval().high - kept.interval().low for kept in (apart, together)]
    assert widths[1] / widths[0] == pytest.approx(np.sqrt(10), rel=0.25)


def test_a_choice_among_forms_is_paid_for() -> None:
    draws = np.random.default_rng(4).normal(0.9, 0.05, 5000)
    kept = Kept(0.9, draws, 80)
    one, many = kept.interval(), kept.interval(tried=13)
    assert (one.level, many.level) == pytest.approx((0.95, 1 - DOUBT / 13))
    assert many.low == pytest.approx(np.quantile(draws, DOUBT / 26))
    assert many.low < one.low < one.high < many.high
    assert str(one) == f"[{one.low:.1%}, {one.high:.1%}]"
    assert "95% for all 13 measured forms" in str(many)


def test_two_losses_one_after_the_other_multiply() -> None:
    rng = np.random.default_rng(5)
    some, other = (Kept(mean, rng.normal(mean, 0.02, 5000), n) for mean, n in ((0.9, 300), (0.8, 80)))
    both = some.times(other)
    assert (both.value, both.n) == (pytest.approx(0.72), 80)
    error = 0.72 * np.hypot(0.02 / 0.9, 0.02 / 0.8)
    assert both.interval().high - both.interval().low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_resamples_without_a_share_stay_in_their_place() -> None:
    """One of three rows is right: in about (2/3)^3 of resamples it is not drawn, and nothing can be kept there."""
    rare, sure = np.array([True, False, False]), np.ones(40, bool)
    few, many = kept_of(*([one] for one in two(rare, rare))), kept_of(*([one] for one in two(sure, sure)))
    assert few is not None
    assert many is not None
    assert few.draws.shape == many.draws.shape
    assert np.isnan(few.draws).mean() == pytest.approx((2 / 3) ** 3, abs=0.03)
    for both in (few.times(many), many.times(few)):
        assert both.interval()[:3] == (1.0, 1.0, 3)


def test_of_a_model_that_is_never_right_nothing_can_be_kept() -> None:
    nothing = np.zeros(10, bool)
    assert kept_of(*([one] for one in two(nothing, nothing))) is None


FORMS = (ModelVariant("full", 23.0, 3.0), ModelVariant("half", 18.0, 1.6), ModelVariant("static", 2.0, 0.2))


@pytest.mark.parametrize(
    ("keep", "kept", "shipped", "met", "tried", "untold"),
    [
        (0.9, {"full": 1.0, "half": 0.95, "static": None}, "half", True, 1, ("static",)),
        (0.97, {"full": 1.0, "half": 0.95, "static": None}, "full", True, 2, ("static",)),
        (0.97, {"full": 0.9, "half": 0.95, "static": None}, "half", False, 2, ("static",)),
        (0.97, {"full": None, "half": None, "static": None}, "full", True, 0, ("static", "half", "full")),
        (0.9, {"full": 1.0, "half": 0.95, "static": 0.92}, "static", True, 1, ()),
    ],
)
def test_a_form_of_which_nothing_can_be_told_is_not_taken_for_one_that_keeps_all(
    keep: float, kept: dict[str, float | None], shipped: str, met: bool, tried: int, untold: tuple[str, ...]
) -> None:
    outcome = search(Contract(keep=keep), FORMS, kept.__getitem__)
    assert (outcome.shipped.name, outcome.met, outcome.tried, outcome.untold) == (shipped, met, tried, untold)
    assert all(form.kept is None for form in outcome.forms if form.name in untold)


def test_where_nothing_can_be_measured_it_is_said_of_all_forms() -> None:
    assert search(Contract(keep=0.9), FORMS, None).untold == ("full", "half", "static")
    assert search(Contract(size_mb=20), FORMS, None).untold == ()


def test_a_form_in_words_has_its_interval() -> None:
    form = FORMS[1]._replace(kept=0.95, interval=Interval(0.9, 1.01, 80, 2))
    assert str(form) == "half: p50 1.60 ms, 18.0 MB, keeps 95.00% [90.0%, 101.0%, 95% for all 2 measured forms]"
