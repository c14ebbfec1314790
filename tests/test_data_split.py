"""Folds: no leaks, even classes, the same every time."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.types import Example
from refsynth.data.split import fold_of, parts, split_rows
from refsynth.data.text import near_groups


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
    assert split.honest == (len(found) > 1 and all(len({row.label for row in part.train}) > 1 for part in found))
    assert sorted(place for part in found for place in part.places) == list(range(len(rows)))
