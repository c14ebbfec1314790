"""Folds of labelled rows without leaks: near-duplicates stay together. Knows nothing of models or drafts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from refsynth.core.types import Example, IntArray


def fold_of(
    examples: Sequence[Example],
    *,
    folds: int,
    seed: int,
    groups: IntArray,
    names: Callable[[str], Sequence[str]] = lambda label: (label,),
) -> IntArray:
    """Return the fold of each example: [N] in [0, folds).

    Whole groups are dealt out, the largest first, each to the fold that has least of its classes and then fewest rows. Where no
    group has two rows, the rows of each class, and all rows, are spread over the folds to within one. A class may have fewer
    rows than there are folds; a fold is then without it, or even empty.

    Args:
        examples: N labelled rows.
        folds: how many.
        seed: decides between equals.
        groups: a group number per row [N], as `near_groups` gives it; a group is never divided.
        names: the classes that an example's label stands for, where it may be several or none.
    """
    if not examples:
        return np.zeros(0, int)
    pairs = [(row, name) for row, example in enumerate(examples) for name in names(example.label)]
    labels = {name: k for k, name in enumerate(sorted({name for _, name in pairs}))}
    group = np.unique(groups, return_inverse=True)[1]
    table = np.zeros((int(group.max()) + 1, max(1, len(labels))), int)  # no row may have any label
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
