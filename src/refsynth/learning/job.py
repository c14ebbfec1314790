"""The values that every stage of a run takes. Nothing in a `Job` trains, generates or downloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from refsynth.core.hashes import digest
from refsynth.core.learners import LearnerName
from refsynth.core.observe import Observer
from refsynth.core.protocols import Learner
from refsynth.core.run import RunFolder
from refsynth.core.scorers import scorers_key
from refsynth.core.task import Task
from refsynth.core.types import Draft
from refsynth.learning.context import LearnerContext, learners_key
from refsynth.learning.outside import NOTHING, Outside
from refsynth.learning.pool import Pool
from refsynth.learning.rows import Rows


@dataclass(frozen=True)
class Job:
    """The values that the stages of a run share.

    Attributes:
        task: the task.
        rows: the labeled rows with their folds.
        pool: the unlabeled texts.
        context: the context of the learners.
        learners: the learners, the most preferred first; they keep the encoders that they tuned.
        folder: the folder for steps, of the run or of a round.
        watch: takes messages and progress.
        skip_bad: whether unusable rows are left out instead of ending the run.
        outside: texts that none of the labels fits.
        forget: ids of drafts and pool texts that resemble test rows; no model is fitted to them.
    """

    task: Task
    rows: Rows
    pool: Pool
    context: LearnerContext
    learners: Mapping[LearnerName, Learner]
    folder: RunFolder
    watch: Observer
    skip_bad: bool = False
    forget: tuple[str, ...] = ()
    outside: Outside = NOTHING

    def at(self, folder: RunFolder) -> Self:
        """Return the job with another folder for its steps."""
        return replace(self, folder=folder)

    @property
    def pool_key(self) -> str:
        """The hash of the texts for self-training and students, for step keys; empty without them."""
        config = self.task.config
        texts = self.pool.texts if config.selftrain.per_class or "distilled" in config.learners else ()
        return digest(texts) if texts else ""


def drafts_key(drafts: Sequence[Draft]) -> str:
    """Return the hash of drafts with their scores, for a step's key."""
    return digest([draft.to_json() for draft in drafts])


def choosing_key(job: Job) -> dict[str, Any]:
    """Return what a step's key needs about the selection of drafts: the code of scorers from other packages."""
    return {"scorers.outside": scorers_key(job.task.config.filter, rows=True)}


def fitting_key(job: Job) -> dict[str, Any]:
    """Return what a step's key needs about the learners, beyond the configuration and our own code.

    Raises:
        ConfigError: the templates of the learner `prompt` cannot be used.
    """
    key = {"encoder": job.context.encoder_hash, "pool": job.pool_key}
    return key | learners_key(job.task.config, job.rows.language)
