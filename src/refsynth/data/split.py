"""Splits labeled rows into folds without leaks: near-duplicates stay together. Knows nothing of models or drafts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.types import Example, IntArray
from refsynth.data.text import near_groups

ALIKE = 0.9
"""Two rows of at least this similarity are never in different folds, whatever it costs."""

Names = Callable[[str], Sequence[str]]
"""Returns the classes of an example's label: one, several or none."""


def _one(label: str) -> Sequence[str]:
    return (label,)


def spread(label: str, names: Names) -> Sequence[str]:
    """Return the classes that a row counts for when rows are spread over folds: those of its label, or one class for no label.

    If all rows without a label were held out together, no model could learn to predict none.
    """
    return names(label) or ("",)


class FoldedRows(NamedTuple):
    """Labeled rows in folds.

    Attributes:
        folds: the fold of each row [N].
        groups: the number of each row's group of near-duplicates, which is never in two folds [N].
        divided: number of rows whose group had to be divided: they may have near-duplicates in another fold.
        honest: whether models can be measured on these folds, see `is_honest`.
    """

    folds: IntArray
    groups: IntArray
    divided: int
    honest: bool


class FoldSplit(NamedTuple):
    """A held-out fold: its rows `held`, their positions `places` among all rows, and the other rows, `train`."""

    fold: int
    places: IntArray
    held: tuple[Example, ...]
    train: tuple[Example, ...]


def parts(rows: Sequence[Example], folds: IntArray) -> Iterator[FoldSplit]:
    """Yield a split for each fold; `folds` [N] has the fold of each row."""
    for fold in np.unique(folds):
        inside = folds == fold
        held, train = (tuple(rows[int(place)] for place in np.flatnonzero(chosen)) for chosen in (inside, ~inside))
        yield FoldSplit(int(fold), np.flatnonzero(inside), held, train)


def split_rows(examples: Sequence[Example], *, folds: int, seed: int, names: Names = _one, least: int = 2) -> FoldedRows:
    """Return the rows in folds that keep near-duplicates together.

    A group of near-duplicates is divided if it would leave nothing to measure: it holds more than half of the rows, or all
    rows of a label with two or more. It is divided into the groups of the stricter threshold `ALIKE`.

    Args:
        examples: N labeled rows.
        folds: number of folds.
        seed: decides between equal folds.
        names: the classes of a label.
        least: the fewest labels that a model can learn from.
    """
    texts = [example.text for example in examples]
    groups = near_groups(texts)
    coarse = _too_large(examples, groups, names)
    divided = 0
    if coarse:
        finer = near_groups(texts, threshold=ALIKE)
        divided = sum(int((groups == group).sum()) for group in coarse if len(set(finer[groups == group])) > 1)
        groups = np.unique(np.where(np.isin(groups, list(coarse)), len(texts) + finer, groups), return_inverse=True)[1]
    assigned = fold_of(examples, folds=folds, seed=seed, groups=groups, names=names)
    return FoldedRows(assigned, groups, divided, is_honest(examples, assigned, names=names, least=least))


def is_honest(examples: Sequence[Example], folds: IntArray, *, names: Names = _one, least: int = 2) -> bool:
    """Return whether models can be measured on folds.

    There must be two or more folds. The training rows of each fold must have at least `least` labels, and at least so many
    labels must have a held-out row with the same label among its training rows.
    """
    measurable: set[str] = set()
    splits = list(parts(examples, folds))
    for split in splits:
        held, train = ({name for row in rows for name in names(row.label)} for rows in (split.held, split.train))
        if len(train) < least:
            return False
        measurable |= held & train
    return len(splits) > 1 and len(measurable) >= least


def _too_large(examples: Sequence[Example], groups: IntArray, names: Names) -> set[int]:
    """Return the groups that hold more than half of the rows, or all rows of a label with two or more."""
    large = {int(group) for group, size in Counter(groups.tolist()).items() if 2 * size > len(examples) and size > 1}
    of_label: dict[str, list[int]] = {}
    for example, group in zip(examples, groups.tolist(), strict=True):
        for name in names(example.label):
            of_label.setdefault(name, []).append(group)
    return large | {used[0] for used in of_label.values() if len(used) > 1 and len(set(used)) == 1}


def fold_of(examples: Sequence[Example], *, folds: int, seed: int, groups: IntArray, names: Names = _one) -> IntArray:
    """Return the fold of each example: [N] in [0, folds).

    Whole groups are assigned, the largest first, each to the fold that has least of its classes and then the fewest rows. If
    no group has two rows, the folds' counts of each class, and of all rows, differ by at most one. A class with fewer rows
    than folds is missing from some, which may even be empty. Rows without a class are assigned as a class of their own.

    Args:
        examples: N labeled rows.
        folds: number of folds.
        seed: decides between equal folds.
        groups: the group number of each row [N], see `near_groups`; a group is never divided.
        names: the classes of a label, which may be several or none.
    """
    if not examples:
        return np.zeros(0, int)
    pairs = [(row, name) for row, example in enumerate(examples) for name in spread(example.label, names)]
    labels = {name: k for k, name in enumerate(sorted({name for _, name in pairs}))}
    group = np.unique(groups, return_inverse=True)[1]
    table = np.zeros((int(group.max()) + 1, len(labels)), int)
    np.add.at(table, (group[[row for row, _ in pairs]], np.array([labels[name] for _, name in pairs], int)), 1)
    order = np.random.default_rng(seed).permutation(len(table))
    # Among groups of one size, class after class: assigning a class in one go keeps its counts even over the folds.
    order = order[np.lexsort((table.argmax(1)[order], -table.sum(1)[order]))]
    held = np.zeros((folds, table.shape[1]), int)
    fold_of_group = np.zeros(len(table), int)
    for index in order:
        counts = table[index]
        overlap = (held @ (counts / np.maximum(table.sum(0), 1))).round(12)
        fold = min(range(folds), key=lambda f: (overlap[f], held[f].sum(), f))
        fold_of_group[index] = fold
        held[fold] += counts
    return fold_of_group[group]
