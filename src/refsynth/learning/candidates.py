"""The candidates that the gate compares: each learner without drafts, and with the drafts that a judge selected.

The judge is fitted to the rows that the candidate trains on, never to the rows that the candidate is measured on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refsynth.core.hashes import derive_seed
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.types import Draft, Example, kept
from refsynth.data.split import fold_of, spread
from refsynth.data.text import near_groups
from refsynth.kinds import ONE_LABEL, Kind
from refsynth.learning.selftrain import Choose, from_pool

LEAST_VALIDATION = 12
"""The fewest validation rows."""
LEAST_TRAIN = 2
"""Rows of a label that stay in the training set, if it has as many."""


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
    """The predictors of all candidates on one set of real rows, and the drafts with the reasons for dropped ones."""

    predictors: Mapping[Candidate, Predictor]
    drafts: Sequence[Draft]


def ranked(learners: Iterable[LearnerName]) -> list[LearnerName]:
    """Return the learners in order of preference."""
    order = list(LEARNERS)
    return sorted(learners, key=order.index)


@dataclass(frozen=True)
class Fitter:
    """Fits learners to one set of real rows.

    A learner with early stopping trains neither on the validation rows nor on drafts whose prompts showed one of them.

    Attributes:
        learners: the learners by name.
        real: all rows.
        train: the rows without the validation rows.
        validation: rows for early stopping; may be empty.
        seed: seed of the training.
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
        """Return a fitter of learners to real rows, a share of which is the validation set."""
        stops = any(LEARNERS[name].stops for name in learners)
        train, validation = set_aside(real, share, seed=seed, kind=kind) if stops else (list(real), [])
        return cls(learners, real, train, validation, seed)

    @property
    def judge(self) -> Candidate:
        """The candidate that selects drafts: the most preferred learner on real rows alone."""
        return Candidate(ranked(self.learners)[0], False)

    def fit(self, candidate: Candidate, drafts: Sequence[Draft] = ()) -> Predictor:
        """Return a candidate fitted to the real rows, and to the drafts that are not dropped if it takes drafts."""
        name = candidate.learner
        stops = LEARNERS[name].stops and self.validation
        added = kept(drafts) if candidate.drafts else []
        if stops:
            added = _not_shown(added, frozenset(row.id for row in self.validation))
        rows = [*(self.train if stops else self.real), *added]
        return self.learners[name].fit(rows, self.validation if stops else (), seed=self.seed)


def candidates_of(learners: Iterable[LearnerName], drafts: Sequence[Draft]) -> tuple[Candidate, ...]:
    """Return each learner without drafts, and with drafts if it can use them and any draft is selected."""
    names = list(learners)
    with_drafts = [name for name in names if LEARNERS[name].uses_drafts] if any(draft.dropped is None for draft in drafts) else []
    return (*(Candidate(name, False) for name in names), *(Candidate(name, True) for name in with_drafts))


def small_of(learners: Iterable[LearnerName], *, drafts: bool) -> list[Candidate]:
    """Return the candidates that are small already, so that they compete with the smaller forms of another."""
    return [Candidate(name, drafts) for name in learners if LEARNERS[name].small]


def fit_candidates(fitter: Fitter, drafts: Sequence[Draft], choose: Choose) -> Fitted:
    """Fit every learner to the real rows, and again with the drafts that the judge, the most preferred of them, selects.

    `drafts`: already screened, and independent of the rows to predict.
    """
    fitted = {candidate: fitter.fit(candidate) for candidate in candidates_of(fitter.learners, ())}
    chosen = choose(fitted[fitter.judge], fitter.real, drafts)
    with_drafts = [candidate for candidate in candidates_of(fitter.learners, chosen) if candidate.drafts]
    return Fitted(fitted | {candidate: fitter.fit(candidate, chosen) for candidate in with_drafts}, chosen)


def _not_shown(drafts: Sequence[Example], validation: frozenset[str]) -> list[Example]:
    """Return the drafts whose prompts showed no validation row.

    A policy's rewards, and the labels of texts of the pool, depend on so many rows that no such draft would remain; these stay.
    That is safe: the validation rows only choose an epoch, and nothing is measured on them.
    """
    return [row for row in drafts if row.provenance is None or from_pool(row) or validation.isdisjoint(row.provenance.shown)]


def safe_for(drafts: Sequence[Draft], held_out: frozenset[str]) -> list[Draft]:
    """Return the drafts that do not depend on the held-out rows: no prompt showed them, no reward came from them."""
    return [draft for draft in drafts if draft.example.independent_of(held_out)]


def set_aside(real: Sequence[Example], share: float, *, seed: int, kind: Kind = ONE_LABEL) -> tuple[list[Example], list[Example]]:
    """Divide real rows into a training and a validation set; near-duplicates stay together.

    The training set keeps `LEAST_TRAIN` rows of each label, and of rows without labels. The validation set is empty if it would
    have fewer than `LEAST_VALIDATION` rows, or if the share is below 2 rows for each label.
    """
    least = max(LEAST_VALIDATION, 2 * len({name for row in real for name in kind.names(row.label)}))
    if round(share * len(real)) < least:
        return list(real), []
    groups = near_groups([row.text for row in real])
    folds = fold_of(real, folds=round(1 / share), seed=derive_seed(seed, "dev"), groups=groups, names=kind.names)
    validation = folds == 0
    classes = [spread(row.label, kind.names) for row in real]
    in_train = Counter(name for names, out in zip(classes, validation, strict=True) if not out for name in names)
    scarce = [any(in_train[name] < LEAST_TRAIN for name in names) for names in classes]
    validation &= ~np.isin(groups, groups[validation & scarce])
    if validation.sum() < LEAST_VALIDATION:
        return list(real), []
    pairs = list(zip(real, validation, strict=True))
    return [row for row, out in pairs if not out], [row for row, out in pairs if out]
