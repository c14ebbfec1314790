"""The folds of the gate: what each holds out, what is left to learn from, and the models that are made of that.

Whoever measures on rows that were held out gets his models here, so that all of them learn from the same rows and drafts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.learners import LearnerName
from refsynth.core.protocols import Learner
from refsynth.core.run import derive_seed
from refsynth.core.task import Task
from refsynth.core.types import Draft, Example, IntArray
from refsynth.data.split import fold_of, is_honest, parts
from refsynth.kinds import given_labels
from refsynth.learning.candidates import Fitted, Fitter, fit_candidates, safe_for
from refsynth.learning.rows import Rows
from refsynth.learning.selftrain import Choose

TRIES = 20
"""Deals of a repeat, at most: where half are of no use, none of 20 is any in one of a million repeats."""


class Fold(NamedTuple):
    """A fold of a repeat: its rows, their places among all rows, and the rows and drafts that are left to learn from.

    `drafts` owe nothing to the rows that are held out, neither their texts nor their labels.
    """

    repeat: int
    number: int
    places: IntArray
    held: tuple[Example, ...]
    train: tuple[Example, ...]
    drafts: tuple[Draft, ...]
    seed: int

    @property
    def texts(self) -> list[str]:
        """The texts that are held out."""
        return [row.text for row in self.held]


def deals(rows: Rows, *, folds: int, repeats: int, seed: int) -> IntArray:
    """Return the fold of each row in each repeat [R, N]: the first are those of the rows, each further repeat deals anew.

    Prompts show rows of one fold of the first repeat. Later folds cut across these, and leave fewer drafts that have not seen
    any of their rows.

    A deal on which models cannot be measured (`data.split.is_honest`) is dealt again, `TRIES` times at most. Where none is found
    the repeat has the folds of the first deal: its models are trained with other seeds.
    """

    def dealt(repeat: int) -> IntArray:
        kind = rows.kind
        for attempt in range(TRIES):
            drawn = derive_seed(seed, "folds", repeat, *([attempt] if attempt else []))
            found = fold_of(rows.examples, folds=folds, seed=drawn, groups=rows.groups, names=kind.names)
            if is_honest(rows.examples, found, names=kind.names, least=kind.least):
                return found
        return rows.folds

    return np.stack([rows.folds, *map(dealt, range(1, repeats))])


def deals_of(task: Task, rows: Rows) -> IntArray:
    """Return the folds that a task asks for [R, N]."""
    gate = task.config.gate
    return deals(rows, folds=gate.folds, repeats=gate.repeats, seed=task.config.seed)


def folds_of(task: Task, rows: Rows, drafts: Sequence[Draft] = ()) -> Iterator[Fold]:
    """Yield all folds of all repeats, with what they leave of the drafts."""
    for repeat, dealt in enumerate(deals_of(task, rows)):
        for part in parts(rows.examples, dealt):
            safe = safe_for(drafts, frozenset(row.id for row in part.held))
            # That some labels go together may be known from held-out rows alone.
            known = {*task.labels, *map(rows.kind.group, given_labels(part.train))}
            safe = [draft for draft in safe if rows.kind.group(draft.example.label) in known]
            seed = derive_seed(task.config.seed, "gate", repeat, part.fold)
            yield Fold(repeat, part.fold, part.places, part.held, part.train, tuple(safe), seed)


def fit_fold(fold: Fold, task: Task, rows: Rows, learners: Mapping[LearnerName, Learner], choose: Choose) -> Fitted:
    """Return every learner fitted to what a fold leaves, without drafts and with those that are chosen."""
    fitter = Fitter.of(learners, fold.train, seed=fold.seed, share=task.config.training.validation, kind=rows.kind)
    return fit_candidates(fitter, fold.drafts, choose)
