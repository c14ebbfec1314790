"""Held-out answers: what nobody could know takes no part in a fit, repeats are no rows, and figures are not of fitted rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.hashes import derive_seed
from refsynth.core.spans import UNREAD
from refsynth.core.types import Example
from refsynth.data.split import fold_of, is_honest
from refsynth.evaluation.calibrate import calibrate
from refsynth.evaluation.calibration import fit_temperature, risk_bound, threshold_of
from refsynth.kinds import ANY_LABELS, ONE_LABEL, SPANS
from refsynth.kinds.metrics import calibration_error, softmax
from refsynth.kinds.spans import ragged
from refsynth.learning.folds import deals
from refsynth.learning.head import NEVER
from refsynth.learning.held import HeldOut
from refsynth.learning.rows import Rows


def rows_of(labels, kind=ONE_LABEL, folds=None, groups=None):
    n = len(labels)
    examples = tuple(Example(f"row-{i}", f"text number {i}", label) for i, label in enumerate(labels))
    dealt = np.arange(n) % 4 if folds is None else np.asarray(folds)
    return Rows(examples, dealt, "en", {}, kind, np.arange(n) if groups is None else np.asarray(groups))


def held_of(labels, names, logits, *, kind=ONE_LABEL, folds=None, groups=None, repeats=1):
    rows = rows_of(labels, kind, folds, groups)
    dealt = np.repeat(rows.folds[None], repeats, 0)
    return HeldOut.of(rows, tuple(names), dealt), logits


def noisy(n=64, k=2, seed=0, scale=1.5):
    """Labels and logits of a model that is calibrated at a temperature of its `scale`."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(n, k))
    truth = (z + rng.gumbel(size=z.shape)).argmax(1)
    return truth, scale * z


def test_a_row_whose_class_no_other_row_has_moves_neither_temperature_nor_threshold():
    """Its fold's head says -30 of it, whatever the text: of the rows' confidence that says nothing."""
    truth, logits = noisy()
    labels = ["ab"[t] for t in truth]
    wide = np.column_stack([logits, np.full(len(logits), NEVER)])
    before = calibrate(*held_of(labels, "abc", wide[None]))
    with_rare = calibrate(*held_of([*labels, "c"], "abc", np.vstack([wide, [2.0, 1.0, NEVER]])[None]))
    assert with_rare.left_out == 1 and before.left_out == 0
    assert with_rare.temperature == pytest.approx(before.temperature)
    assert with_rare.threshold == before.threshold
    poisoned = fit_temperature(np.vstack([wide, [2.0, 1.0, NEVER]]), np.append(truth, 2))
    assert poisoned > 1.5 * before.temperature  # what such a row does where it takes part


def test_a_label_that_a_folds_rows_lack_moves_no_cut_of_any_number_of_labels():
    rng = np.random.default_rng(1)
    names = ["a", "b", "c"]
    truth = np.column_stack([rng.integers(0, 2, (40, 2)), np.zeros(40, int)])
    logits = np.column_stack([3.0 * (truth[:, :2] - 0.5) + rng.normal(size=(40, 2)), np.full(40, -4.0)])
    common = [ANY_LABELS.shown(row, names) for row in truth]
    rare = ANY_LABELS.shown(np.array([1, 0, 1]), names)
    held, said = held_of([*common, rare], names, np.vstack([logits, [3.0, -3.0, NEVER]])[None], kind=ANY_LABELS)
    after = calibrate(held, said)
    poisoned = calibrate(replace(held, met=np.ones_like(held.met)), said)  # as if the fold's head had known of c
    assert after.left_out == 1 and poisoned.left_out == 0
    assert after.temperature < 1 < poisoned.temperature
    assert after.threshold.n == 40


def test_words_that_no_model_reads_and_tags_that_no_row_has_take_no_part():
    labels = ("x",)
    rows = ["0-1:x", "1-2:x", "0-1:x", "2-3:x", "1-3:x"]
    read = [np.array([[0.0, 4.0, NEVER], [4.0, 0.0, NEVER], [4.0, 0.0, NEVER]]) for _ in rows]
    read[3][2] = [0.0, UNREAD, UNREAD]  # the model never saw its third word, which is the span
    truth = SPANS.truth(rows, labels)
    held = HeldOut.of(rows_of(rows, SPANS, folds=[0, 1, 2, 3, 4]), labels, np.arange(5)[None])
    assert held.fair(ragged(read)[None]).tolist() == [[True, True, True, False, False]]
    choices = SPANS.choices(ragged(read), truth, held.met[0])
    assert choices.rows.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 4]  # without the unread word, and the first further one
    found = calibrate(held, ragged(read)[None])
    assert found.left_out == 2


@settings(deadline=None, max_examples=25)
@given(st.integers(8, 60), st.integers(2, 5), st.integers(0, 99))
def test_a_row_that_is_asked_about_often_counts_once(n, repeats, seed):
    """Equal answers in each repeat change nothing: neither temperature, nor threshold, nor the bound on the risk."""
    truth, logits = noisy(n, seed=seed)
    labels = ["ab"[t] for t in truth]
    if min(labels.count("a"), labels.count("b")) < 4:
        return
    once = calibrate(*held_of(labels, "ab", logits[None]))
    often = calibrate(*held_of(labels, "ab", np.repeat(logits[None], repeats, 0), repeats=repeats))
    assert often.temperature == pytest.approx(once.temperature, rel=1e-4)
    assert often.threshold.n == once.threshold.n == n
    assert often.threshold.risk_high == pytest.approx(once.threshold.risk_high, rel=1e-3)
    assert often.threshold.coverage == pytest.approx(once.threshold.coverage)


def test_the_bound_of_20_rows_is_that_of_20_rows_with_five_repeats():
    right, sure = np.ones(20, bool), np.linspace(0.6, 0.99, 20)
    once = threshold_of(right, sure)
    often = threshold_of(np.repeat(right, 5), np.repeat(sure, 5), np.full(100, 0.2), n=20)
    assert once.risk_high == pytest.approx(0.109, abs=1e-3)
    assert often.risk_high == pytest.approx(once.risk_high)
    assert risk_bound(0, 100) == pytest.approx(0.023, abs=1e-3)  # what five times the rows would have claimed


def test_near_copies_are_fewer_observations():
    truth, logits = noisy(40, seed=3)
    labels = ["ab"[t] for t in truth]
    alone = calibrate(*held_of(labels, "ab", logits[None]))
    four = calibrate(*held_of(labels, "ab", logits[None], groups=np.arange(40) // 4))
    assert four.threshold.risk_high > alone.threshold.risk_high


def test_repeats_draw_new_folds_and_keep_near_copies_together():
    rows = rows_of("ab" * 16, groups=np.arange(32) // 2)
    dealt = deals(rows, folds=4, repeats=5, seed=0)
    np.testing.assert_array_equal(dealt[0], rows.folds)
    assert len({tuple(each) for each in dealt.tolist()}) == 5
    for folds in dealt[1:]:
        assert (folds[::2] == folds[1::2]).all()


# Three groups: how they are dealt into two folds decides whether rows of two labels can be answered.
FEW, TIED = "aaabbcb", [0, 0, 1, 1, 2, 2, 2]


def test_a_repeat_that_cannot_be_judged_is_dealt_again():
    first = next(
        dealt
        for dealt in (fold_of(rows_of(FEW).examples, folds=2, seed=seed, groups=np.array(TIED)) for seed in range(99))
        if is_honest(rows_of(FEW).examples, dealt)
    )
    rows, dishonest = rows_of(FEW, folds=first, groups=TIED), 0
    for seed in range(30):
        once = fold_of(rows.examples, folds=2, seed=derive_seed(seed, "folds", 1), groups=rows.groups)
        _, again = deals(rows, folds=2, repeats=2, seed=seed)
        assert is_honest(rows.examples, again)
        if is_honest(rows.examples, once):
            np.testing.assert_array_equal(again, once)
        else:
            dishonest += 1
    assert dishonest  # or nothing was tested


def test_where_no_deal_is_honest_a_repeat_has_the_first_one():
    """The rows of each label are one group: whoever deals them anew holds a label out with all of its rows."""
    rows = rows_of("aabb", folds=[0, 0, 0, 1], groups=[0, 0, 1, 1])
    for folds in deals(rows, folds=2, repeats=4, seed=0):
        np.testing.assert_array_equal(folds, rows.folds)


@pytest.mark.parametrize(
    ("labels", "kind", "said"),
    [
        ([*["a"] * 50, "b"], ONE_LABEL, "1 label has two rows or more, 2 are needed"),
        ("ab", ONE_LABEL, "no label has two rows or more, 2 are needed"),
        (["0-1:person"], SPANS, "no label has two rows or more, 1 is needed"),
        ("aabb", ONE_LABEL, "near-copies"),
    ],
)
def test_why_rows_cannot_be_judged(labels, kind, said):
    rows = replace(rows_of(labels, kind), honest=False)
    assert not rows.measurable
    assert said in rows.why_unmeasurable


def test_figures_are_not_of_the_rows_that_temperature_and_threshold_were_fitted_to():
    """Of 16 rows the threshold that was chosen on them looks better than it is on others; cross-fitted it does not."""
    inside, crossed, fresh = [], [], []
    for seed in range(80):
        rng = np.random.default_rng(1000 + seed)
        truth, logits = drawn(rng, 16)
        found = calibrate(*held_of(["ab"[t] for t in truth], "ab", logits[None]))
        if found.crossed is None or found.crossed.risk is None:
            continue
        others, said = drawn(rng, 4000)
        probabilities = softmax(said / found.temperature)
        sure = probabilities.max(1) >= found.threshold.threshold
        fresh.append(float(np.mean(probabilities.argmax(1)[sure] != others[sure])))
        inside.append(found.threshold.risk)
        crossed.append(found.crossed.risk)
    assert np.mean(inside) < np.mean(fresh) - 0.02  # what was told before
    assert np.mean(crossed) > np.mean(fresh)


def drawn(rng, n):
    z = 2 * rng.normal(size=(n, 2))
    return (z + rng.gumbel(size=z.shape)).argmax(1), z


def test_what_the_manifest_says_is_cross_fitted():
    truth, logits = noisy(48, seed=5)
    found = calibrate(*held_of(["ab"[t] for t in truth], "ab", logits[None]))
    assert found.manifest().risk == found.crossed.risk
    assert found.manifest().coverage == found.crossed.coverage
    assert calibration_error(truth, found.crossed.probabilities) >= 0


def test_a_fold_is_answered_with_what_suits_the_others():
    """With one fold changed at will, its own rows are told by the temperature of the other folds alone."""
    truth, logits = noisy(48, seed=6)
    held, said = held_of(["ab"[t] for t in truth], "ab", logits[None])
    first = np.flatnonzero(held.folds[0] == 0)
    turned = replace(held, truth=np.where(np.isin(np.arange(48), first), 1 - held.truth, held.truth))
    one, other = (calibrate(each, said).crossed.probabilities[first] for each in (held, turned))
    np.testing.assert_allclose(one, other)


def test_words_are_calibrated_in_several_repeats():
    """Where a repeat has no row to fit to, its choices have another width than the others'."""
    rows = ["0-1:x", "1-2:x", "0-1:x", "2-3:x", "1-3:x", "0-1:x"]
    said = np.empty((2, 6), object)
    for place in range(6):
        said[0, place] = said[1, place] = np.array([[0.0, 4.0, -4.0], [4.0, 0.0, -4.0], [4.0, 0.0, -4.0]])
    found = HeldOut.of(rows_of(rows, SPANS, folds=[0, 0, 1, 1, 2, 2]), ("x",), np.array([[0, 0, 1, 1, 2, 2], [0, 1, 2, 0, 1, 2]]))
    assert calibrate(found, said).threshold is not None


def test_a_label_that_all_rows_have_is_always_said_and_rightly():
    names = ("common", "a", "b")
    marks = np.array([[1, i % 2, (i // 2) % 2] for i in range(24)])
    logits = 6.0 * (marks - 0.5) + np.random.default_rng(0).normal(size=marks.shape)
    logits[:, 0] = -NEVER
    held, said = held_of([ANY_LABELS.shown(row, names) for row in marks], names, logits[None], kind=ANY_LABELS)
    found = calibrate(held, said)
    assert found.left_out == 0 and found.threshold.n == 24
    without = [ANY_LABELS.shown(np.array([0, 1, 0]), names), *(ANY_LABELS.shown(row, names) for row in marks)]
    said = np.vstack([[-NEVER, 3.0, -3.0], logits])[None]
    assert calibrate(*held_of(without, names, said, kind=ANY_LABELS)).left_out == 1  # said of it too, and wrongly


def test_a_label_of_few_rows_has_no_more_of_them_by_repeats():
    rng = np.random.default_rng(2)
    marks = np.array([[i % 2, 0, 0] for i in range(24)])
    marks[:2, 1], marks[2:5, 2] = 1, 1
    logits = 3.0 * (marks - 0.5) + rng.normal(size=marks.shape)
    sets = [ANY_LABELS.shown(row, ("a", "b", "c")) for row in marks]
    once, _ = held_of(sets, ("a", "b", "c"), logits[None], kind=ANY_LABELS)
    often, _ = held_of(sets, ("a", "b", "c"), np.repeat(logits[None], 3, 0), kind=ANY_LABELS, repeats=3)
    np.testing.assert_allclose(once.cuts_of(logits[None]), often.cuts_of(np.repeat(logits[None], 3, 0)))


def test_rows_that_take_no_part_are_no_observations():
    """Two groups of copies are two observations, however many rows of labels of their own stand beside them."""
    labels = ["a"] * 10 + ["b"] * 10 + [f"alone-{i}" for i in range(40)]
    names = ("a", "b", *(f"alone-{i}" for i in range(40)))
    logits = np.full((60, 42), -9.0)
    logits[:10, 0] = logits[10:20, 1] = 3.0
    logits[20:, 0] = 1.0
    groups = [0] * 10 + [1] * 10 + list(range(2, 42))
    found = calibrate(*held_of(labels, names, logits[None], folds=np.arange(60) % 2, groups=groups))
    assert found.left_out == 40
    assert found.threshold.risk_high == pytest.approx(risk_bound(0, 2), abs=1e-6)


def test_a_row_that_could_be_answered_in_one_repeat_takes_part():
    truth, logits = noisy(12, seed=4)
    labels = ["ab"[t] for t in truth]
    held, said = held_of(labels, "ab", np.repeat(logits[None], 2, 0), repeats=2)
    met = held.met.copy()
    met[0, 3] = False
    found = calibrate(replace(held, met=met), said)
    assert found.left_out == 0 and found.threshold.n == 12


def test_no_label_of_a_fold_has_a_part_in_the_threshold_that_answers_it():
    rng = np.random.default_rng(7)
    names = ("a", "b")
    marks = rng.integers(0, 2, (40, 2))
    logits = 2.0 * (marks - 0.5) + rng.normal(size=marks.shape)
    held, said = held_of([ANY_LABELS.shown(row, names) for row in marks], names, logits[None], kind=ANY_LABELS)
    mine = held.folds[0] == 0
    turned = replace(held, truth=np.where(mine[:, None], 1 - held.truth, held.truth))
    one, other = (calibrate(each, said).crossed for each in (held, turned))
    rows = mine[one.rows]
    np.testing.assert_array_equal(one.unsure[rows], other.unsure[rows])
    np.testing.assert_allclose(one.probabilities[rows], other.probabilities[rows])
