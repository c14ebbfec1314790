"""Parts of training rows that are held out in turn, for learners that tune something on rows they have not learnt from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from refsynth.core.types import Example, IntArray
from refsynth.data.split import FoldSplit, parts, split_rows
from refsynth.kinds import ANY_LABELS, ONE_LABEL, Kind, given_labels
from refsynth.learning.head import Link


def kind_of(link: Link) -> Kind:
    """Return what a text is given where logits become probabilities that way: one label, or any number of them."""
    return ANY_LABELS if link == "sigmoid" else ONE_LABEL


def fair_parts(
    rows: Sequence[Example], folds: IntArray, labels: Sequence[str], *, link: Link
) -> Iterator[tuple[FoldSplit, IntArray]]:
    """Yield each part with the places, among the rows that it holds out, of those whose labels the other rows have too.

    Of another label the models of these rows say the same whatever the text, which tells nothing about them; so they do if they
    have rows of too few labels. Parts of which no row tells anything are left out.

    Args:
        rows: N labelled ones.
        folds: the part of each row [N].
        labels: of the task.
        link: how logits become probabilities.
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
    """Return the part of each row [N]; near-duplicates share one, so that there may be fewer parts than asked for.

    Args:
        rows: labelled ones.
        number: how many parts.
        seed: of the division.
        link: how logits become probabilities, which tells whether a row may have any number of labels.
    """
    kind = kind_of(link)
    return split_rows(rows, folds=number, seed=seed, names=kind.names, least=kind.least).folds
