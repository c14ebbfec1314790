"""Folds: no leaks, even classes, the same every time."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.labelset import join_labels
from refsynth.core.spans import Span, join_spans
from refsynth.core.types import Example
from refsynth.data.split import fold_of, is_honest, parts, split_rows
from refsynth.data.text import near_groups
from refsynth.kinds import ANY_LABELS, SPANS
from refsynth.learning.candidates import set_aside


def examples_of(labels):
    return [Example(f"row-{i}", f"text {i}", label) for i, label in enumerate(labels, 1)]


labels_and_groups = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 12)), max_size=60)


@settings(deadline=None)
@given(labels_and_groups, st.integers(2, 6), st.integers(0, 99))
def test_groups_are_never_divided_and_every_row_has_a_fold(rows, folds, seed):
    examples, groups = examples_of([label for label, _ in rows]), np.array([group for _, group in rows], int)
    fold = fold_of(examples, folds=folds, seed=seed, groups=groups)
    assert fold.shape == (len(rows),)
    assert ((fold >= 0) & (fold < folds)).all()
    for group in set(groups.tolist()):
        assert len(set(fold[groups == group].tolist())) == 1
    np.testing.assert_array_equal(fold, fold_of(examples, folds=folds, seed=seed, groups=groups))
    np.testing.assert_array_equal(fold, fold_of(examples, folds=folds, seed=seed, groups=groups * 7 + 3))


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcde"), max_size=80), st.integers(2, 6), st.integers(0, 99))
def test_single_rows_are_spread_to_within_one(labels, folds, seed):
    fold = fold_of(examples_of(labels), folds=folds, seed=seed, groups=np.arange(len(labels)))
    sizes = np.bincount(fold, minlength=folds)
    assert sizes.max() - sizes.min() <= 1
    for label in set(labels):
        counts = np.bincount(fold[np.array(labels) == label], minlength=folds)
        assert counts.max() - counts.min() <= 1


def test_groups_of_two_are_balanced_by_class():
    labels = ["a"] * 16 + ["b"] * 16
    fold = fold_of(examples_of(labels), folds=4, seed=0, groups=np.arange(32) // 2)
    for part in (fold[:16], fold[16:]):
        assert np.bincount(part, minlength=4).tolist() == [4, 4, 4, 4]


def test_the_seed_decides():
    examples = examples_of("ab" * 20)
    one, other = (fold_of(examples, folds=4, seed=seed, groups=np.arange(40)) for seed in (0, 1))
    assert (one != other).any()


@pytest.mark.parametrize("labels", ["", "a", "aab"])
def test_fewer_rows_than_folds(labels):
    fold = fold_of(examples_of(labels), folds=5, seed=0, groups=np.arange(len(labels)))
    assert len(set(fold.tolist())) == len(labels)


def test_near_duplicates_stay_on_one_side():
    texts = [f"Where is my card number {i % 5}, it has not arrived in the post yet{'!' * (i // 5)}" for i in range(10)]
    texts += ["Please close my account", "How do I reset the PIN?", "The transfer failed twice"]
    examples = [Example(f"row-{i}", text, "ab"[i % 2]) for i, text in enumerate(texts)]
    groups = near_groups(texts)
    fold = fold_of(examples, folds=3, seed=0, groups=groups)
    assert len(set(groups.tolist())) < len(texts)
    assert all(fold[i] == fold[j] for i in range(13) for j in range(13) if groups[i] == groups[j])


def lights(colors=("red", "blue", "green", "white"), states=("on", "off")):
    texts = [f"please turn the {color} light in the kitchen {state} right now thank you" for color in colors for state in states]
    return [Example(f"row-{i}", text, text.split()[-5]) for i, text in enumerate(texts)]


def test_rows_of_one_template_are_divided_so_that_every_fold_can_be_answered():
    """All of them are one group of near-copies: in one fold, nothing would be left to learn from."""
    rows = lights()
    assert len(set(near_groups([row.text for row in rows]).tolist())) < 3
    split = split_rows(rows, folds=4, seed=0)
    assert split.honest and split.divided == len(rows)
    for part in parts(rows, split.folds):
        assert {row.label for row in part.train} == {"on", "off"}


def of_template(form, label):
    return [Example(f"{label}-{i}", form.format(room), label) for i, room in enumerate(ROOMS)]


def test_a_label_that_is_one_template_stays_in_training():
    rows = of_template("please turn on the light in the {} right now thank you", "light")
    rows += of_template("what is the weather like today in the {} of the house", "weather")
    rows += of_template("remind me to clean up the {} tomorrow at nine please", "reminder")
    split = split_rows(rows, folds=4, seed=0)
    assert split.honest and split.divided == len(rows)
    for part in parts(rows, split.folds):
        assert len({row.label for row in part.train}) == 3


ROOMS = ("kitchen", "bedroom", "hall", "attic", "cellar", "garage")


def test_copies_of_one_text_cannot_be_judged():
    form = "{} the quick brown fox jumps over the lazy dog and runs home before the rain"
    rows = [Example(f"row-{i}", form.format(i), "ab"[i % 2]) for i in range(4)]
    split = split_rows(rows, folds=4, seed=0)
    assert not split.honest and split.divided == 0


def test_a_text_that_stands_there_twice_is_not_divided():
    rows = [Example(f"row-{i}", hashlib.sha256(b"%d" % i).hexdigest(), "ab"[i % 2]) for i in range(12)]
    rows += [Example(f"twice-{end}", f"Where is the parcel that I ordered{end}", "a") for end in ("?", "")]
    split = split_rows(rows, folds=4, seed=0)
    assert split.honest and split.divided == 0
    assert split.folds[-1] == split.folds[-2]


forms = st.tuples(st.sampled_from("abc"), st.sampled_from(["say {} to me", "what about {} then", "{}"]))


@settings(deadline=None, max_examples=40)
@given(st.lists(forms, max_size=40), st.integers(2, 5))
def test_a_split_that_is_called_honest_leaves_labels_to_learn_from(drawn, folds):
    words = ["sun", "moon", "parcel", "train", "bread", "door"]
    rows = [Example(f"row-{i}", form.format(words[i % 6] * (1 + i // 6)), label) for i, (label, form) in enumerate(drawn)]
    split = split_rows(rows, folds=folds, seed=0)
    assert split.folds.shape == split.groups.shape == (len(rows),)
    for group in set(split.groups.tolist()):
        assert len(set(split.folds[split.groups == group].tolist())) == 1
    found = list(parts(rows, split.folds))
    learnable = all(len({row.label for row in part.train}) > 1 for part in found)
    answerable = {row.label for part in found for row in part.held if any(row.label == other.label for other in part.train)}
    assert split.honest == (len(found) > 1 and learnable and len(answerable) > 1)
    assert sorted(place for part in found for place in part.places) == list(range(len(rows)))


def unlike(number):
    return hashlib.sha256(b"%d" % number).hexdigest()


def marked(n, share):
    """N rows of words of which the first `share` have a span."""
    return [Example(f"row-{i}", unlike(i), join_spans([Span(0, 1, "person")] if i < share else [])) for i in range(n)]


def test_rows_without_spans_are_in_all_folds():
    split = split_rows(marked(200, 40), folds=4, seed=0, names=SPANS.names, least=1)
    assert split.honest
    assert np.bincount(split.folds).tolist() == [50, 50, 50, 50]
    assert np.bincount(split.folds[40:]).tolist() == [40, 40, 40, 40]


sets_of_labels = st.lists(st.sets(st.sampled_from("abc")), max_size=60)


@settings(deadline=None)
@given(sets_of_labels, st.integers(2, 6), st.integers(0, 99))
def test_rows_without_any_label_are_spread_to_within_one(sets, folds, seed):
    rows = [Example(f"row-{i}", str(i), join_labels(some, "abc")) for i, some in enumerate(sets)]
    fold = fold_of(rows, folds=folds, seed=seed, groups=np.arange(len(rows)), names=ANY_LABELS.names)
    counts = np.bincount(fold[[not some for some in sets]], minlength=folds)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("kind", "labels"), [(SPANS, ("(none)", "0-1:person", "0-1:place")), (ANY_LABELS, ("(none)", "person", "place"))]
)
def test_some_rows_without_labels_tell_when_to_stop_and_some_are_trained_on(kind, labels):
    rows = [Example(f"row-{i}", unlike(i), labels[0 if i >= 40 else 1 + i % 2]) for i in range(200)]
    train, told = set_aside(rows, 0.2, seed=0, kind=kind)
    assert sum(not kind.names(row.label) for row in told) == 32
    assert sum(not kind.names(row.label) for row in train) == 128


def test_rows_without_labels_that_are_one_group_are_not_all_set_aside():
    """Nobody could learn from what is left that a text may have no label."""
    names = ["a", "b"]
    bare = [Example(f"bare-{end}", f"nothing at all to say about this long text{end}", join_labels([], names)) for end in "!?."]
    rows = [Example(f"row-{i}", unlike(i), join_labels([names[i % 2]], names)) for i in range(100)]
    for seed in range(8):
        train, told = set_aside([*bare, *rows], 0.2, seed=seed, kind=ANY_LABELS)
        assert told and {row.id for row in bare} <= {row.id for row in train}


def test_having_no_label_is_no_label_to_learn_from():
    """Two labels have to be in the training part of each fold; rows without any stand for none."""
    rows = [Example(f"row-{i}", unlike(i), join_labels(["a"] if i % 2 else [], ["a", "b"])) for i in range(12)]
    assert not split_rows(rows, folds=3, seed=0, names=ANY_LABELS.names).honest
    assert not split_rows(marked(12, 0), folds=3, seed=0, names=SPANS.names, least=1).honest


def test_folds_are_not_honest_where_nobody_could_answer_what_is_held_out():
    """Each label's rows are near-copies: where one is held out, nobody has met its label."""
    rows = [Example(f"{label}-{i}", f"{unlike(ord(label)) * 3} {i}", label) for label in "abc" for i in range(3)]
    split = split_rows(rows, folds=4, seed=0)
    assert len(set(split.folds.tolist())) == 3  # so that two labels are left to learn from beside each
    assert not split.honest


@pytest.mark.parametrize(
    ("labels", "folds", "least", "honest"),
    [
        ("abab", [0, 0, 1, 1], 2, True),
        ("aabbcc", [0, 0, 1, 1, 2, 2], 2, False),
        ("aabbcc", [0, 1, 1, 1, 2, 2], 2, False),  # rows of one label alone can be answered
        ("aabbcc", [0, 1, 1, 0, 2, 2], 2, True),
        ("aabb", [0, 1, 0, 0], 1, True),
        ("aabb", [0, 0, 1, 1], 1, False),
    ],
)
def test_rows_of_enough_labels_can_be_answered(labels, folds, least, honest):
    assert is_honest(examples_of(labels), np.array(folds), least=least) == honest
