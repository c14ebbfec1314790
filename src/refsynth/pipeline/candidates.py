"""What the gate compares: each learner, without drafts and with the drafts that were chosen by a model of the same real rows.

The judge that selects drafts is fitted to the very rows that the candidate trains on, never to the rows it is measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from refsynth.core.protocols import Learner, Predictor
from refsynth.core.sections import LearnerName
from refsynth.core.types import Draft, Example
from refsynth.quality.filter import kept

PREFERENCE: tuple[LearnerName, ...] = ("contrastive", "finetune", "frozen", "tfidf")
"""Learners from the one that is best on most tasks to the one that is worst: who judges drafts, and who wins a draw."""


class Candidate(NamedTuple):
    """A learner, with or without drafts."""

    learner: LearnerName
    drafts: bool

    @classmethod
    def named(cls, name: str) -> Candidate:
        """Return the candidate whose `str` is given."""
        learner = next(each for each in PREFERENCE if each == name.removesuffix("+drafts"))
        return cls(learner, name.endswith("+drafts"))

    def __str__(self) -> str:
        return f"{self.learner}+drafts" if self.drafts else self.learner


class Fitted(NamedTuple):
    """The predictors of all candidates on one set of real rows, and what became of the drafts."""

    predictors: Mapping[Candidate, Predictor]
    drafts: Sequence[Draft]


def ranked(learners: Iterable[LearnerName]) -> list[LearnerName]:
    """Return the learners in order of preference."""
    return sorted(learners, key=PREFERENCE.index)


def fit_candidates(
    learners: Mapping[LearnerName, Learner],
    real: Sequence[Example],
    drafts: Sequence[Draft],
    choose: Callable[[Predictor, Sequence[Example], Sequence[Draft]], list[Draft]],
    *,
    seed: int,
) -> Fitted:
    """Fit every learner to the real rows, and again to the real rows with the drafts that the best of them chooses.

    Args:
        learners: by name.
        real: rows to train on.
        drafts: screened drafts, none of which has seen a row outside `real` that is to be predicted.
        choose: chooses among the drafts, given a judge that was fitted to the real rows.
        seed: of the training.
    """
    fitted: dict[Candidate, Predictor] = {
        Candidate(name, False): learner.fit(real, (), seed=seed) for name, learner in learners.items()
    }
    chosen = choose(fitted[Candidate(ranked(learners)[0], False)], real, drafts)
    if selected := kept(chosen):
        for name, learner in learners.items():
            fitted[Candidate(name, True)] = learner.fit([*real, *selected], (), seed=seed)
    return Fitted(fitted, chosen)
