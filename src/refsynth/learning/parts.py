"""Parts of the training rows that are held out in turn, for learners that tune something on rows they were not fitted to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from refsynth.core.types import Example, IntArray
from refsynth.data.split import FoldSplit, parts, split_rows
from refsynth.kinds import ANY_LABELS, ONE_LABEL, Kind, given_labels
from refsynth.learning.head import Link


def kind_of(link: Link) -> Kind:
    """Return the task kind of a link: one label for each text, or any number of them."""
    return ANY_LABELS if link == "sigmoid" else ONE_LABEL


def fair_parts(
    rows: Sequence[Example], folds: IntArray, labels: Sequence[str], *, link: Link
) -> Iterator[tuple[FoldSplit, IntArray]]:
    """Yield each part with the places of its fair rows among those that it holds out: rows whose labels the other rows have.

    A model cannot predict a label that it was not trained on, so its answer to such a row measures nothing. Parts without fair
    rows are skipped, and so are parts whose training rows have too few labels. `folds` [N] is the part of each row.
    """
    kind = kind_of(link)
    for part in parts(rows, folds):
        if len({name for row in part.train for name in kind.names(row.label)}) < kind.least:
            continue
        given = given_labels(part.train)
        always = kind.truth(given, labels).all(0) if kind.several else np.zeros(len(labels), bool)
        said, met = (np.tile(each, (len(part.held), 1)) for each in (np.where(always, 1.0, -1.0), kind.learnable(given, labels)))
        fair = np.flatnonzero(kind.answerable(said, kind.truth(given_labels(part.held), labels), met))
        if len(fair):
            yield part, fair


def parts_of(rows: Sequence[Example], number: int, *, seed: int, link: Link) -> IntArray:
    """Return the part of each labeled row [N]; near-duplicates share one, so there may be fewer than `number` parts."""
    kind = kind_of(link)
    return split_rows(rows, folds=number, seed=seed, names=kind.names, least=kind.least).folds
