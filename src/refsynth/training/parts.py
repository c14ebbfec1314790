"""Parts of training rows that are held out in turn, for learners that tune something on rows they have not learnt from."""

from __future__ import annotations

from collections.abc import Sequence

from refsynth.core.types import Example, IntArray
from refsynth.data.split import split_rows
from refsynth.kinds import ANY_LABELS, ONE_LABEL, Kind
from refsynth.training.head import Link


def parts_of(rows: Sequence[Example], parts: int, *, seed: int, link: Link) -> IntArray:
    """Return the part of each row [N]; near-duplicates share one, so that there may be fewer parts than asked for.

    Args:
        rows: labelled ones.
        parts: how many.
        seed: of the division.
        link: how logits become probabilities, which tells whether a row may have any number of labels.
    """
    kind: Kind = ANY_LABELS if link == "sigmoid" else ONE_LABEL
    return split_rows(rows, folds=parts, seed=seed, names=kind.names, least=kind.least).folds
