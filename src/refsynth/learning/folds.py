"""The folds of the gate: the rows that each holds out, the rows and drafts that remain, and the models fitted to those.

Everything that measures on held-out rows takes its models from here, so all of them are fitted to the same rows and drafts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from refsynth.core.hashes import derive_seed
from refsynth.core.learners import LearnerName
from refsynth.core.protocols import Learner
from refsynth.core.task import Task
from refsynth.core.types import Draft, Example, IntArray
from refsynth.data.split import fold_of, is_honest, parts
from refsynth.kinds import given_labels
from refsynth.learning.candidates import Fitted, Fitter, fit_candidates, safe_for
from refsynth.learning.rows import Rows
from refsynth.learning.selftrain import Choose

TRIES = 20
"""The most attempts to deal the folds of a repeat: if half of all deals are unusable, all 20 are in one of a million repeats."""


class Fold(NamedTuple):
    """A fold of a repeat: its held-out rows, their places among all rows, and the rows and drafts to train on.

    Neither the texts nor the labels of `drafts` depend on the held-out rows.
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
        """The texts of the held-out rows."""
        return [row.text for row in self.held]


def deals(rows: Rows, *, folds: int, repeats: int, seed: int) -> IntArray:
    """Return the fold of each row in each repeat [R, N]: the first repeat has the folds of `rows`, each further one deals anew.

    Prompts show rows of one fold of the first repeat. Later folds cut across these, so fewer drafts have seen none of their rows.

    Folds on which models cannot be measured (`data.split.is_honest`) are dealt again, at most `TRIES` times. If that does not
    help, the repeat has the folds of the first one, and its models differ by their seeds.
    """

    def dealt(repeat: int) -> IntArray:
        kind = rows.kind
        for attempt in range(TRIES):
            fold_seed = derive_seed(seed, "folds", repeat, *([attempt] if attempt else []))
            fold = fold_of(rows.examples, folds=folds, seed=fold_seed, groups=rows.groups, names=kind.names)
            if is_honest(rows.examples, fold, names=kind.names, least=kind.least):
                return fold
        return rows.folds

    return np.stack([rows.folds, *map(dealt, range(1, repeats))])


def deals_of(task: Task, rows: Rows) -> IntArray:
    """Return the fold of each row in each repeat [R, N], as the task configures them."""
    gate = task.config.gate
    return deals(rows, folds=gate.folds, repeats=gate.repeats, seed=task.config.seed)


def folds_of(task: Task, rows: Rows, drafts: Sequence[Draft] = ()) -> Iterator[Fold]:
    """Yield all folds of all repeats, each with the drafts that do not depend on its held-out rows."""
    for repeat, dealt in enumerate(deals_of(task, rows)):
        for part in parts(rows.examples, dealt):
            safe = safe_for(drafts, frozenset(row.id for row in part.held))
            # A combination of labels that only held-out rows have would tell the model about them.
            known = {*task.labels, *map(rows.kind.group, given_labels(part.train))}
            safe = [draft for draft in safe if rows.kind.group(draft.example.label) in known]
            seed = derive_seed(task.config.seed, "gate", repeat, part.fold)
            yield Fold(repeat, part.fold, part.places, part.held, part.train, tuple(safe), seed)


def fit_fold(fold: Fold, task: Task, rows: Rows, learners: Mapping[LearnerName, Learner], choose: Choose) -> Fitted:
    """Fit every learner to the training rows of a fold, without drafts and with the drafts that `choose` selects."""
    fitter = Fitter.of(learners, fold.train, seed=fold.seed, share=task.config.training.validation, kind=rows.kind)
    return fit_candidates(fitter, fold.drafts, choose)
