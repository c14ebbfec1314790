"""The judge, which is the most preferred learner fitted to all real rows, and the drafts that are selected with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refsynth.core.files import read_jsonl, write_jsonl
from refsynth.core.hashes import derive_seed
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import Draft, Example, kept
from refsynth.learning.candidates import Fitter
from refsynth.learning.fits import Fits, read_fits, write_fits
from refsynth.learning.job import Job, choosing_key, drafts_key, fitting_key
from refsynth.learning.rows import Rows
from refsynth.learning.selftrain import Choose, from_pool


@dataclass(frozen=True)
class Selected:
    """Drafts and texts of the pool; a dropped draft has the reason."""

    drafts: tuple[Draft, ...]

    @property
    def kept(self) -> list[Example]:
        """The examples that are not dropped."""
        return kept(self.drafts)

    @property
    def from_pool(self) -> tuple[Draft, ...]:
        """The texts of the pool."""
        return tuple(draft for draft in self.drafts if from_pool(draft.example))

    @property
    def generated(self) -> tuple[Draft, ...]:
        """The drafts that are not from the pool."""
        return tuple(draft for draft in self.drafts if not from_pool(draft.example))


def real_rows(task: Task, rows: Rows) -> tuple[Example, ...]:
    """Return the real rows to train on: the labeled rows, or the descriptions of the labels if there are none."""
    if rows.examples:
        return rows.examples
    return tuple(Example(f"label-{label}", text, label) for label, text in task.descriptions.items())


def fitter_of(job: Job) -> Fitter:
    """Return the fitter of the job's learners to all real rows."""
    config = job.task.config
    real = real_rows(job.task, job.rows)
    seed = derive_seed(config.seed, "final")
    return Fitter.of(job.learners, real, seed=seed, share=config.training.validation, kind=job.context.kind)


def fit_judge(job: Job) -> Fits:
    """Fit the judge to all real rows. It does not depend on drafts or on their selection."""
    fitter = fitter_of(job)

    def make(out: Path) -> None:
        judge = {fitter.judge: fitter.fit(fitter.judge)}
        write_fits(judge, out, job.context, seed=fitter.seed, learners=[job.learners[fitter.judge.learner]])

    done = job.folder.step(STEPS["judge"], make, config=settings_of(job.task.config), extra=fitting_key(job))
    return read_fits(done, fitter)


def select(job: Job, judge: Fits, drafts: Sequence[Draft], choose: Choose) -> Selected:
    """Select among screened drafts for the final fit, with the judge of `fit_judge`."""

    def make(out: Path) -> None:
        (predictor,) = judge.predictors(job.context).values()
        write_jsonl(out / "drafts.jsonl", [draft.to_json() for draft in choose(predictor, judge.real, drafts)])

    key = {"drafts": drafts_key(drafts), "pool": job.pool_key, "encoder": job.context.encoder_hash}
    done = job.folder.step(STEPS["select"], make, config=settings_of(job.task.config), extra=key | choosing_key(job))
    return Selected(tuple(Draft.from_json(record) for record in read_jsonl(done / "drafts.jsonl")))
