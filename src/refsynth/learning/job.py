"""A task under way: what every stage of a run is given. It holds values; nothing in it trains, asks or fetches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from refsynth.core.learners import LearnerName
from refsynth.core.observe import Observer
from refsynth.core.protocols import Learner
from refsynth.core.run import RunFolder, digest
from refsynth.core.scorers import scorers_key
from refsynth.core.task import Task
from refsynth.core.types import Draft
from refsynth.learning.context import LearnerContext, learners_key
from refsynth.learning.outside import NOTHING, Outside
from refsynth.learning.pool import Pool
from refsynth.learning.rows import Rows


@dataclass(frozen=True)
class Job:
    """What the stages of a run share.

    Attributes:
        task: what is asked.
        rows: the labeled rows with their folds.
        pool: the unlabelled texts.
        context: what learners are made with.
        learners: the most preferred first; they remember what they tuned.
        folder: where steps are kept: of the run, or of a round.
        watch: is told what happens.
        skip_bad: whether unusable rows are left out instead of ending the run.
        outside: texts that none of the labels fits.
        forget: ids of drafts and texts of the pool that resemble test rows: nothing learns from them.
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
        """The hash of the texts that self-training and students learn from, for the cache; empty without them."""
        config = self.task.config
        texts = self.pool.texts if config.selftrain.per_class or "distilled" in config.learners else ()
        return digest(texts) if texts else ""


def drafts_key(drafts: Sequence[Draft]) -> str:
    """Return the hash of drafts, with what is known of them, for a step's key."""
    return digest([draft.to_json() for draft in drafts])


def choosing_key(job: Job) -> dict[str, Any]:
    """Return what else decides which drafts are chosen, given real rows: the code of scorers that other packages bring."""
    return {"scorers.outside": scorers_key(job.task.config.filter, rows=True)}


def fitting_key(job: Job) -> dict[str, Any]:
    """Return what else decides what learners make of rows, for a step's key.

    Raises:
        ConfigError: the templates of the learner `prompt` cannot be used.
    """
    given = {"encoder": job.context.encoder_hash, "pool": job.pool_key}
    return given | learners_key(job.task.config, job.rows.language)
