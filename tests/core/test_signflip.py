"""The sign-flip test against exact counts, and the share of runs without effect in which the gate takes drafts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refsynth.core.signflip import FLIPS, MOST_EXACT, sign_flip


@settings(deadline=None)
@given(st.integers(0, 12), st.integers(0, 12))
def test_one_way_with_wins_and_losses_is_the_exact_sign_test(wins, losses):
    """McNemar's test, exact and one-sided: P(at least so many wins of that many discordant rows)."""
    differences = np.array([1.0] * wins + [-1.0] * losses + [0.0] * 5)
    if wins + losses > MOST_EXACT:
        return
    expected = stats.binom.sf(wins - 1, wins + losses, 0.5)
    assert sign_flip(differences[None], np.arange(len(differences)))[0] == pytest.approx(expected)


def test_random_flips_come_near_the_exact_test():
    differences = np.array([1.0] * 30 + [-1.0] * 15)
    expected = stats.binom.sf(29, 45, 0.5)
    found = sign_flip(differences[None], np.arange(45))[0]
    assert abs(found - expected) < 4 * np.sqrt(expected / FLIPS)


def test_several_ways_are_judged_by_the_best_of_them():
    rng = np.random.default_rng(0)
    differences = rng.integers(-1, 2, (3, 9)).astype(float)
    signs = np.array(list(product((1, -1), repeat=9)))
    scale = np.sqrt((differences**2).sum(1))
    best = ((signs @ differences.T) / scale).max(1)
    expected = [np.mean(best >= value - 1e-9) for value in differences.sum(1) / scale]
    np.testing.assert_allclose(sign_flip(differences, np.arange(9)), expected)


def test_ways_that_are_one_cost_nothing_more():
    differences = np.array([1.0] * 7 + [-1.0])
    np.testing.assert_allclose(sign_flip(np.stack([differences] * 4), np.arange(8)), stats.binom.sf(6, 8, 0.5))


def test_a_group_is_flipped_as_one():
    differences = np.ones(12)
    assert sign_flip(differences[None], np.arange(12) // 4)[0] == 1 / 8


def test_no_difference_is_no_evidence():
    np.testing.assert_array_equal(sign_flip(np.zeros((2, 10)), np.arange(10)), 1)
    assert sign_flip(np.array([[0.0] * 8, [1.0] * 8]), np.arange(8)).tolist() == [1.0, 1 / 256]


@pytest.mark.slow
@pytest.mark.parametrize("n", [16, 64, 256])
@pytest.mark.parametrize("ways", [1, 3, 6])
def test_drafts_without_effect_are_taken_in_at_most_5_percent_of_runs(n, ways):
    """The rule before, one standard error for the best of several, took them in 13 % of runs for one way and 40 % for six."""
    rng, taken, before, runs = np.random.default_rng(n + ways), 0, 0, 400
    for _ in range(runs):
        common = rng.normal(size=n)
        scores = np.sqrt(0.5) * common + np.sqrt(0.5) * rng.normal(size=(ways, n))  # learners err on the same rows
        differences = (scores > 1.44).astype(float) - (scores < -1.44)  # 15 % of rows change, either way alike
        taken += sign_flip(differences, np.arange(n)).min() <= 0.05
        best = differences[differences.mean(1).argmax()]
        before += best.mean() > best.std(ddof=1) / np.sqrt(n)
    assert taken / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
    assert before / runs > 0.09


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_differences_that_are_no_numbers_are_refused(wrong):
    """An infinite difference made the probability of the gain 0, as if it were sure; NaN was taken for no difference."""
    with pytest.raises(ValueError, match="not finite"):
        sign_flip(np.array([[0.0, 1.0, wrong]]), np.arange(3))
