"""Folds of labelled rows without leaks: near-duplicates stay together. Knows nothing of models or drafts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.types import Example, IntArray
from refsynth.data.text import near_groups

ALIKE = 0.9
"""Similarity from which on two rows are never in different folds, whatever that costs."""

Names = Callable[[str], Sequence[str]]
"""Return the classes that an example's label stands for: one, several or none."""


def _one(label: str) -> Sequence[str]:
    return (label,)


def spread(label: str, names: Names) -> Sequence[str]:
    """Return the classes whose rows have to be on both sides: those of a label or, of rows without any, having none.

    To have none is no label. But if all such rows were held out together, no model could learn to say none.
    """
    return names(label) or ("",)


class FoldedRows(NamedTuple):
    """Labelled rows in folds.

    `folds` [N] has the fold of each row, `groups` [N] the number of its group of near-duplicates, which is never in two folds.
    `divided` counts the rows whose group had to be divided, so that they may have near-duplicates in another fold. `honest`
    tells whether models can be measured on these folds: see `is_honest`.
    """

    folds: IntArray
    groups: IntArray
    divided: int
    honest: bool


class FoldSplit(NamedTuple):
    """A fold that is held out: its rows, their places among all rows, and the rows that are left to learn from."""

    fold: int
    places: IntArray
    held: tuple[Example, ...]
    train: tuple[Example, ...]


def parts(rows: Sequence[Example], folds: IntArray) -> Iterator[FoldSplit]:
    """Yield each fold of the rows, held out; `folds` [N] says which fold a row is in."""
    for fold in np.unique(folds):
        out = folds == fold
        held, train = (tuple(rows[int(place)] for place in np.flatnonzero(which)) for which in (out, ~out))
        yield FoldSplit(int(fold), np.flatnonzero(out), held, train)


def split_rows(examples: Sequence[Example], *, folds: int, seed: int, names: Names = _one, least: int = 2) -> FoldedRows:
    """Return the rows in folds that keep near-duplicates together.

    A group of near-duplicates is divided where it would leave nothing to measure: it holds more than half of the rows, or all
    rows of a label that has two or more. Its parts are then its near-duplicates by the stricter measure `ALIKE`.

    Args:
        examples: N labelled rows.
        folds: how many.
        seed: decides between equals.
        names: the classes of a label.
        least: the fewest labels that a model can learn from.
    """
    texts = [example.text for example in examples]
    groups = near_groups(texts)
    coarse = _too_large(examples, groups, names)
    divided = 0
    if coarse:
        finer = near_groups(texts, threshold=ALIKE)
        mine = np.isin(groups, list(coarse))
        divided = sum(int((groups == group).sum()) for group in coarse if len(set(finer[groups == group])) > 1)
        groups = np.unique(np.where(mine, len(texts) + finer, groups), return_inverse=True)[1]
    dealt = fold_of(examples, folds=folds, seed=seed, groups=groups, names=names)
    return FoldedRows(dealt, groups, divided, is_honest(examples, dealt, names=names, least=least))


def is_honest(examples: Sequence[Example], folds: IntArray, *, names: Names = _one, least: int = 2) -> bool:
    """Return whether models can be measured on folds: there are two or more, and `least` labels can be learnt and answered.

    The rows beside each fold have at least so many labels; and so many labels have a held-out row that can be answered, since
    the rows beside its fold have the label too.
    """
    answered: set[str] = set()
    found = list(parts(examples, folds))
    for part in found:
        held, known = ({name for row in rows for name in names(row.label)} for rows in (part.held, part.train))
        if len(known) < least:
            return False
        answered |= held & known
    return len(found) > 1 and len(answered) >= least


def _too_large(examples: Sequence[Example], groups: IntArray, names: Names) -> set[int]:
    """Return the groups that hold more than half of the rows, or all of two or more rows of a label."""
    large = {int(group) for group, size in Counter(groups.tolist()).items() if 2 * size > len(examples) and size > 1}
    of_label: dict[str, list[int]] = {}
    for example, group in zip(examples, groups.tolist(), strict=True):
        for name in names(example.label):
            of_label.setdefault(name, []).append(group)
    return large | {found[0] for found in of_label.values() if len(found) > 1 and len(set(found)) == 1}


def fold_of(
    examples: Sequence[Example],
    *,
    folds: int,
    seed: int,
    groups: IntArray,
    names: Names = _one,
) -> IntArray:
    """Return the fold of each example: [N] in [0, folds).

    Whole groups are dealt out, the largest first, each to the fold that has least of its classes and then fewest rows. Where no
    group has two rows, the rows of each class, and all rows, are spread over the folds to within one. A class may have fewer
    rows than there are folds; a fold is then without it, or even empty. Rows without any class are dealt as a class of their own.

    Args:
        examples: N labelled rows.
        folds: how many.
        seed: decides between equals.
        groups: a group number per row [N], as `near_groups` gives it; a group is never divided.
        names: the classes that an example's label stands for, where it may be several or none.
    """
    if not examples:
        return np.zeros(0, int)
    pairs = [(row, name) for row, example in enumerate(examples) for name in spread(example.label, names)]
    labels = {name: k for k, name in enumerate(sorted({name for _, name in pairs}))}
    group = np.unique(groups, return_inverse=True)[1]
    table = np.zeros((int(group.max()) + 1, len(labels)), int)
    np.add.at(table, (group[[row for row, _ in pairs]], np.array([labels[name] for _, name in pairs], int)), 1)
    order = np.random.default_rng(seed).permutation(len(table))
    # Class after class among groups of one size: dealing a class out in one go is what keeps it, and the folds, even.
    order = order[np.lexsort((table.argmax(1)[order], -table.sum(1)[order]))]
    held = np.zeros((folds, table.shape[1]), int)
    fold_of_group = np.zeros(len(table), int)
    for index in order:
        counts = table[index]
        crowd = (held @ (counts / np.maximum(table.sum(0), 1))).round(12)
        fold = min(range(folds), key=lambda f: (crowd[f], held[f].sum(), f))
        fold_of_group[index] = fold
        held[fold] += counts
    return fold_of_group[group]
