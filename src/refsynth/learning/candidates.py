"""What the gate compares: each learner, without drafts and with the drafts that were chosen by a model of the same real rows.

The judge that selects drafts is fitted to the very rows that the candidate trains on, never to the rows it is measured on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.run import derive_seed
from refsynth.core.types import Draft, Example, kept
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


@dataclass(frozen=True)
class Fitter:
    """Fits learners to one set of real rows.

    A learner that is fine-tuned does not train on the validation rows; they tell it when to stop. Drafts that were shown one of
    these do not train it either.

    Attributes:
        learners: by name.
        real: all rows.
        train: the rows without those of validation.
        validation: rows that tell when to stop; may be empty.
        seed: of the training.
    """

    learners: Mapping[LearnerName, Learner]
    real: Sequence[Example]
    train: Sequence[Example]
    validation: Sequence[Example]
    seed: int

    @classmethod
    def of(
        cls,
        learners: Mapping[LearnerName, Learner],
        real: Sequence[Example],
        *,
        seed: int,
        share: float = 0.0,
        kind: Kind = ONE_LABEL,
    ) -> Fitter:
        """Return who fits learners to real rows, a share of which is the validation set."""
        stops = any(LEARNERS[name].stops for name in learners)
        train, validation = set_aside(real, share, seed=seed, kind=kind) if stops else (list(real), [])
        return cls(learners, real, train, validation, seed)

    @property
    def judge(self) -> Candidate:
        """The candidate that selects drafts: the most preferred learner on real rows alone."""
        return Candidate(ranked(self.learners)[0], False)

    def fit(self, candidate: Candidate, drafts: Sequence[Draft] = ()) -> Predictor:
        """Return a candidate fitted to the real rows, and, if it takes drafts, to those that are not dropped."""
        name = candidate.learner
        stops = LEARNERS[name].stops and self.validation
        taught = kept(drafts) if candidate.drafts else []
        if stops:
            taught = _untold(taught, frozenset(row.id for row in self.validation))
        rows = [*(self.train if stops else self.real), *taught]
        return self.learners[name].fit(rows, self.validation if stops else (), seed=self.seed)


def candidates_of(learners: Iterable[LearnerName], drafts: Sequence[Draft]) -> tuple[Candidate, ...]:
    """Return what can be compared: each learner, and again with drafts where any is selected and it learns from them."""
    names = list(learners)
    taught = [name for name in names if LEARNERS[name].uses_drafts] if any(draft.dropped is None for draft in drafts) else []
    return (*(Candidate(name, False) for name in names), *(Candidate(name, True) for name in taught))


def small_of(learners: Iterable[LearnerName], *, drafts: bool) -> list[Candidate]:
    """Return the candidates that are small as they are, and may be asked for beside the forms of another."""
    return [Candidate(name, drafts) for name in learners if LEARNERS[name].small]


def fit_candidates(fitter: Fitter, drafts: Sequence[Draft], choose: Choose) -> Fitted:
    """Fit every learner to the real rows, and again to the real rows with the drafts that the best of them chooses.

    Args:
        fitter: who fits.
        drafts: screened drafts, none of which has seen a row outside the fitter's rows that is to be predicted.
        choose: chooses among the drafts, given a judge that was fitted to the real rows.
    """
    fitted = {candidate: fitter.fit(candidate) for candidate in candidates_of(fitter.learners, ())}
    chosen = choose(fitted[fitter.judge], fitter.real, drafts)
    helped = [candidate for candidate in candidates_of(fitter.learners, chosen) if candidate.drafts]
    return Fitted(fitted | {candidate: fitter.fit(candidate, chosen) for candidate in helped}, chosen)


def _untold(drafts: Sequence[Example], told: frozenset[str]) -> list[Example]:
    """Return the drafts whose prompts showed none of the rows that tell when to stop.

    Policies are rewarded by so many rows, and texts of the pool labelled by a model of so many, that none of these would be left.
    The rows choose an epoch and measure nothing: what knows them from afar may be trained on.
    """
    return [row for row in drafts if row.provenance is None or from_pool(row) or told.isdisjoint(row.provenance.shown)]


def safe_for(drafts: Sequence[Draft], held_out: frozenset[str]) -> list[Draft]:
    """Return the drafts that owe nothing to the held-out rows: no prompt showed them, no reward came from them."""
    return [draft for draft in drafts if draft.example.independent_of(held_out)]


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
