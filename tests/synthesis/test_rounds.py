"""Rounds of drafts: a round is kept for what its drafts add to a learner, not for the learner that happens to lead."""

from __future__ import annotations

import numpy as np
import pytest

from refsynth.learning.candidates import Candidate
from refsynth.synthesis.rounds import adds
from tests.support.held import held_of

FROZEN, TFIDF = "frozen", "tfidf"


def after(**right):
    """Return held-out answers to 32 rows: the first so many are right, without drafts and with them by learner."""
    rows = np.arange(32)
    logits = {}
    for learner, (plain, mixed) in right.items():
        for drafts, share in ((False, plain), (True, mixed)):
            if share is not None:
                logits[Candidate(learner, drafts)] = np.eye(2)[np.where(rows < share, 0, 1)][None]
    return held_of(np.zeros(32, int), logits)


def test_another_learner_in_front_is_no_merit_of_the_round():
    """Drafts took the preferred learner to 24 rows, then back to 8; TF-IDF, which is as it was, leads then with 29."""
    before, now = after(frozen=(8, 24), tfidf=(26, 29)), after(frozen=(8, 8), tfidf=(26, 29))
    assert not adds(before, now, looks=1)


def test_a_round_is_kept_for_any_learner_that_could_ship():
    """The learner in front gains nothing; the next one does."""
    assert adds(after(frozen=(30, 30), tfidf=(12, 12)), after(frozen=(30, 30), tfidf=(12, 28)), looks=1)
    assert not adds(after(frozen=(30, 30), average=(12, 12)), after(frozen=(30, 30), average=(12, 28)), looks=1)


def test_a_round_that_first_brings_drafts_is_compared_with_real_rows_alone():
    assert adds(after(frozen=(20, None)), after(frozen=(20, 30)), looks=1)
    assert not adds(after(frozen=(20, None)), after(frozen=(20, None)), looks=1)
    assert not adds(after(frozen=(20, 30)), after(frozen=(20, None)), looks=1)  # its drafts were taken for none


@pytest.mark.parametrize(("looks", "kept"), [(1, True), (3, True), (4, False)])
def test_looks_are_paid_for(looks, kept):
    """Six rows more and none less: 1 / 64."""
    assert adds(after(frozen=(8, 8)), after(frozen=(8, 14)), looks=looks) == kept


def test_learners_are_paid_for():
    """Rows that two learners win apart: the best of both comes by chance more often than the one."""
    one, rng = np.arange(32) < 5, np.random.default_rng(0)
    both = {Candidate(FROZEN, True): one, Candidate(TFIDF, True): rng.permutation(one)}

    def said(marks):
        return held_of(np.zeros(32, int), {name: np.eye(2)[1 - each.astype(int)][None] for name, each in marks.items()})

    none = {name: np.zeros(32, bool) for name in both}
    first = Candidate(FROZEN, True)
    assert adds(said({first: none[first]}), said({first: one}), looks=1)  # 1 / 32
    assert not adds(said(none), said(both), looks=1)  # about 2 / 32
