"""What rows say for one set of answers over another: unchanged rows say nothing, and the gate keeps its promise."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refsynth.core.signflip import sign_flip
from refsynth.core.spans import Span, join_spans
from refsynth.kinds import ANY_LABELS, ONE_LABEL, SPANS
from refsynth.kinds.spans import count, ragged
from refsynth.learning.candidates import Candidate
from refsynth.learning.gate import FALSE_ACCEPTS, decide, gain_chances
from tests.support.held import held_of

PREFERRED, MIXED, OTHER = Candidate("finetune", False), Candidate("finetune", True), Candidate("crf", False)

some_rows = st.lists(st.lists(st.sets(st.integers(0, 4)), min_size=3, max_size=3), min_size=1, max_size=12)


def spans(places):
    return join_spans([Span(place, place + 1, "0") for place in sorted(places)])


def columns(rows):
    return [np.array([spans(row[column]) for row in rows], object) for column in range(3)]


@given(some_rows)
def test_the_mean_difference_of_spans_is_that_of_f1_up_to_the_sizes(rows):
    """By algebra it is (F' - F) 4 A B / (A + B)^2, with A and B the spans there and said before and after: at most F' - F."""
    truth, before, after = columns(rows)
    old, new = count(truth, before), count(truth, after)
    a, b = old.true.sum() + old.predicted.sum(), new.true.sum() + new.predicted.sum()
    closed = (new.f1() - old.f1()) * 4 * a * b / (a + b) ** 2 if a + b else 0.0
    assert SPANS.differences(truth, before, after).mean() == pytest.approx(closed, abs=1e-12)


@given(some_rows, st.data())
def test_rows_that_swap_their_answers_turn_their_signs_and_no_others(rows, data):
    """So all 2^N swaps are as likely where drafts have no effect, and the share of flips that gain as much is exact."""
    truth, before, after = columns(rows)
    swapped = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    plain = SPANS.differences(truth, before, after)
    turned = SPANS.differences(truth, np.where(swapped, after, before), np.where(swapped, before, after))
    np.testing.assert_allclose(turned, np.where(swapped, -plain, plain), atol=1e-12)
    assert (plain[before == after] == 0).all()


@given(st.integers(1, 20), st.integers(0, 99))
def test_of_one_label_and_of_any_they_are_those_of_scores(n, seed):
    rng = np.random.default_rng(seed)
    for kind, draw in (
        (ONE_LABEL, partial(rng.integers, 0, 3, n)),
        (ANY_LABELS, partial(rng.integers, 0, 2, (n, 3))),
    ):
        truth, before, after = draw(), draw(), draw()
        found = kind.differences(truth, before, after)
        np.testing.assert_array_equal(found, kind.scores(truth, after) - kind.scores(truth, before))


def test_where_nothing_is_there_or_said_nothing_differs():
    none = np.array([spans(())] * 4, object)
    np.testing.assert_array_equal(SPANS.differences(none, none, none), np.zeros(4))


def answered(rows):
    """Return logits of one-word texts, which say the word is a span or not."""
    return ragged([np.array([[-5.0, 5.0, -9.0] if said else [5.0, -5.0, -9.0]]) for said in rows])[None]


def heldout(there, said, groups=None):
    truth = np.array([spans({0} if each else ()) for each in there], object)
    held = held_of(truth, {MIXED: np.zeros((1, len(there), 3))}, kind=SPANS, groups=groups)
    return replace(held, logits={candidate: answered(rows) for candidate, rows in said.items()})


@pytest.mark.parametrize("n", [20, 200])
@pytest.mark.parametrize("m", [2, 3, 4, 6])
def test_drafts_without_effect_are_taken_at_most_in_5_percent_where_few_rows_have_spans(m, n):
    """All outcomes of m rows with spans, found with one probability before and after, by their probability: no simulation.

    The differences of scores, each about its own F1, took them with a probability of up to 25 %.
    """
    there = [1] * m + [0] * (n - m)
    chances = {}
    for kept, gained, lost in product(range(m + 1), repeat=3):
        if kept + gained + lost <= m and gained > lost:
            rest = [0] * (n - kept - gained - lost)
            before, after = [1] * kept + [0] * gained + [1] * lost + rest, [1] * kept + [1] * gained + [0] * lost + rest
            chances[kept, gained, lost] = gain_chances(heldout(there, {PREFERRED: before, MIXED: after}), [MIXED])[0]
    for recall in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        taken = 0.0
        for (kept, gained, lost), chance in chances.items():
            missed = m - kept - gained - lost
            ways = factorial(m) / (factorial(kept) * factorial(gained) * factorial(lost) * factorial(missed))
            likely = recall ** (2 * kept) * (recall * (1 - recall)) ** (gained + lost) * (1 - recall) ** (2 * missed)
            taken += ways * likely * (chance <= FALSE_ACCEPTS)
        assert taken <= FALSE_ACCEPTS


def test_spans_said_where_there_are_none_are_taken_no_more_often():
    """Rows change by chance, either way alike, some with spans and some without: at most 5 % by simulation, and not never."""
    rng, runs, taken = np.random.default_rng(0), 1000, 0
    truth = np.array([spans({0} if row < 20 else ()) for row in range(64)], object)
    for _ in range(runs):
        base = rng.random(64) < np.where(np.arange(64) < 20, 0.7, 0.1)
        before, after = (
            np.array([spans({0} if each else ()) for each in np.where(rng.random(64) < 0.3, ~base, base)], object)
            for _ in range(2)
        )
        taken += sign_flip(SPANS.differences(truth, before, after)[None], np.arange(64))[0] <= FALSE_ACCEPTS
    assert 0.01 < taken / runs <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)


def test_two_rows_are_too_few_for_drafts_and_for_a_less_preferred_learner():
    """Where both models find none of two spans or both, the rows without spans had the difference 1, without any spread."""
    there, found, missed = [1] * 2 + [0] * 198, [1] * 2 + [0] * 198, [0] * 200
    held = heldout(there, {PREFERRED: missed, MIXED: found})
    assert gain_chances(held, [MIXED]) == [1 / 4]
    assert decide(held, [PREFERRED, MIXED]).shipped == PREFERRED
    assert decide(heldout(there, {PREFERRED: missed, OTHER: found}), [PREFERRED, OTHER]).shipped == PREFERRED


def test_six_rows_are_enough_and_their_copies_are_not():
    there, found, missed = [1] * 6 + [0] * 60, [1] * 6 + [0] * 60, [0] * 66
    said = {PREFERRED: missed, MIXED: found, OTHER: missed}
    assert decide(heldout(there, said), list(said)).shipped == MIXED
    copies = np.append(np.arange(6) // 2, np.arange(60) + 3)
    assert decide(heldout(there, said, copies), list(said)).shipped == PREFERRED


def test_repeats_are_averaged_row_by_row():
    truth = np.array([0, 0, 0])
    before, after = (np.array(each) for each in ([[1, 1, 0], [1, 0, 0]], [[0, 1, 0], [1, 0, 1]]))
    held = held_of(truth, {MIXED: np.eye(2)[before]})
    np.testing.assert_allclose(held.differences(np.eye(2)[before], np.eye(2)[after]), [0.5, 0, -0.5])


def test_what_competed_is_each_learner_as_it_would_ship():
    right = {PREFERRED: [0] * 6, MIXED: [1] * 6, OTHER: [1] * 6, Candidate("crf", True): [1] * 6}
    average = Candidate("average", False)
    held = held_of(np.zeros(6, int), {c: np.eye(2)[1 - np.array(rows)][None] for c, rows in (right | {average: [1] * 6}).items()})
    assert decide(held, [*right, average]).competed == (MIXED, OTHER)
    assert decide(held, [PREFERRED, OTHER]).competed == (PREFERRED, OTHER)
    assert decide(None, [PREFERRED, MIXED, average]).competed == (MIXED,)
    assert decide(None, [PREFERRED, OTHER]).competed == (PREFERRED, OTHER)
