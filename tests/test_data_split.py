"""Folds: no leaks, even classes, the same every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsynth.core.types import Example
from refsynth.data.split import fold_of
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
