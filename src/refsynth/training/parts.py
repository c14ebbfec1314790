"""Parts of training rows that are held out in turn, for learners that tune something on rows they have not learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refsynth.core.types import Example, IntArray
from refsynth.data.split import Part, split_rows
from refsynth.kinds import ANY_LABELS, ONE_LABEL, Kind, given_labels
from refsynth.training.head import Link


def kind_of(link: Link) -> Kind:
    """Return what a text is given where logits become probabilities that way: one label, or any number of them."""
    return ANY_LABELS if link == "sigmoid" else ONE_LABEL


def fair_rows(part: Part, labels: Sequence[str], *, link: Link) -> list[int]:
    """Return the places, among the rows that a part holds out, of those whose labels the other rows have too.

    Of another label the models of these rows say the same whatever the text, which tells nothing about them.
    """
    kind = kind_of(link)
    met = kind.met(given_labels(part.train), labels)
    always = kind.truth(given_labels(part.train), labels).all(0) if kind.several else np.zeros(len(labels), bool)
    said, known = (np.tile(each, (len(part.held), 1)) for each in (np.where(always, 1.0, -1.0), met))
    return np.flatnonzero(kind.fair(said, kind.truth(given_labels(part.held), labels), known)).tolist()


def parts_of(rows: Sequence[Example], parts: int, *, seed: int, link: Link) -> IntArray:
    """Return the part of each row [N]; near-duplicates share one, so that there may be fewer parts than asked for.

    Args:
        rows: labelled ones.
        parts: how many.
        seed: of the division.
        link: how logits become probabilities, which tells whether a row may have any number of labels.
    """
    kind = kind_of(link)
    return split_rows(rows, folds=parts, seed=seed, names=kind.names, least=kind.least).folds
