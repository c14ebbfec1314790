"""What the gate compares: each learner, without drafts and with the drafts that were chosen by a model of the same real rows.

The judge that selects drafts is fitted to the very rows that the candidate trains on, never to the rows it is measured on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.run import derive_seed
from refsynth.core.types import Draft, Example
from refsynth.data.split import fold_of, spread
from refsynth.data.text import near_groups
from refsynth.kinds import ONE_LABEL, Kind
from refsynth.learning.selftrain import Choose, from_pool

LEAST_DEV = 12
"""Rows by which it can be told when to stop."""
LEAST_TAUGHT = 2
"""Rows of a label that are trained on, if it has so many."""


class Candidate(NamedTuple):
    """A learner, with or without drafts."""

    learner: LearnerName
    drafts: bool

    @classmethod
    def named(cls, name: str) -> Candidate:
        """Return the candidate whose `str` is given."""
        return cls(name.removesuffix("+drafts"), name.endswith("+drafts"))

    def __str__(self) -> str:
        return f"{self.learner}+drafts" if self.drafts else self.learner


class Fitted(NamedTuple):
    """The predictors of all candidates on one set of real rows, and what became of the drafts."""

    predictors: Mapping[Candidate, Predictor]
    drafts: Sequence[Draft]


def ranked(learners: Iterable[LearnerName]) -> list[LearnerName]:
    """Return the learners in order of preference."""
    order = list(LEARNERS)
    return sorted(learners, key=order.index)


def fit_candidates(
    learners: Mapping[LearnerName, Learner],
    real: Sequence[Example],
    drafts: Sequence[Draft],
    choose: Choose,
    *,
    seed: int,
    dev: float = 0.0,
    kind: Kind = ONE_LABEL,
) -> Fitted:
    """Fit every learner to the real rows, and again to the real rows with the drafts that the best of them chooses.

    A learner that is fine-tuned has some of the real rows to tell when to stop; neither these nor drafts
    that were shown them train it.

    Args:
        learners: by name.
        real: rows to train on.
        drafts: screened drafts, none of which has seen a row outside `real` that is to be predicted.
        choose: chooses among the drafts, given a judge that was fitted to the real rows.
        seed: of the training.
        dev: share of the real rows that tell when to stop.
        kind: of the task.
    """
    train, told = (
        set_aside(real, dev, seed=seed, kind=kind) if any(LEARNERS[name].stops for name in learners) else (list(real), [])
    )

    def fit(name: LearnerName, selected: Sequence[Draft]) -> Predictor:
        stops = LEARNERS[name].stops and told
        taught = [draft.example for draft in selected]
        if stops:
            taught = _untold(taught, frozenset(row.id for row in told))
        rows = [*(train if stops else real), *taught]
        return learners[name].fit(rows, told if stops else (), seed=seed)

    fitted: dict[Candidate, Predictor] = {Candidate(name, False): fit(name, ()) for name in learners}
    chosen = choose(fitted[Candidate(ranked(learners)[0], False)], real, drafts)
    if selected := [draft for draft in chosen if draft.dropped is None]:
        fitted |= {Candidate(name, True): fit(name, selected) for name in learners if LEARNERS[name].taught}
    return Fitted(fitted, chosen)


def _untold(drafts: Sequence[Example], told: frozenset[str]) -> list[Example]:
    """Return the drafts whose prompts showed none of the rows that tell when to stop.

    Policies are rewarded by so many rows, and texts of the pool labelled by a model of so many, that none of these would be left.
    The rows choose an epoch and measure nothing: what knows them from afar may be trained on.
    """
    return [row for row in drafts if row.provenance is None or from_pool(row) or told.isdisjoint(row.provenance.shown)]


def safe_for(drafts: Sequence[Draft], held_out: frozenset[str]) -> list[Draft]:
    """Return the drafts that owe nothing to the held-out rows: no prompt showed them, no reward came from them."""
    return [draft for draft in drafts if draft.example.owes_nothing(held_out)]


def set_aside(real: Sequence[Example], share: float, *, seed: int, kind: Kind = ONE_LABEL) -> tuple[list[Example], list[Example]]:
    """Divide real rows into those to train on and those that tell when to stop; near-duplicates stay together.

    Rows of a label, or of none, that would keep fewer than `LEAST_TAUGHT` to train on are not set aside. None are where that
    would be too few to tell: fewer than `LEAST_DEV`, or than 2 of each label in the mean.
    """
    least = max(LEAST_DEV, 2 * len({name for row in real for name in kind.names(row.label)}))
    if round(share * len(real)) < least:
        return list(real), []
    groups = near_groups([row.text for row in real])
    folds = fold_of(real, folds=round(1 / share), seed=derive_seed(seed, "dev"), groups=groups, names=kind.names)
    told = folds == 0
    classes = [spread(row.label, kind.names) for row in real]
    taught = Counter(name for found, aside in zip(classes, told, strict=True) if not aside for name in found)
    scarce = [any(taught[name] < LEAST_TAUGHT for name in found) for found in classes]
    told &= ~np.isin(groups, groups[told & scarce])
    if told.sum() < LEAST_DEV:
        return list(real), []
    pairs = list(zip(real, told, strict=True))
    return [row for row, aside in pairs if not aside], [row for row, aside in pairs if aside]
