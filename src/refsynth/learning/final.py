"""The final fit, on all real rows and the selected drafts: what the gate lets ship, and what that is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refsynth.core.protocols import Predictor
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Draft, Example
from refsynth.learning.candidates import Candidate
from refsynth.learning.context import LearnerContext
from refsynth.learning.fits import Fits, read_fits, write_fits
from refsynth.learning.job import Job, fitting_key
from refsynth.learning.judge import Selected, fitter_of
from refsynth.learning.search import SearchResult


@dataclass(frozen=True)
class Final:
    """The candidates that were fitted to all real rows; the judge is one of them where it was asked for."""

    candidates: tuple[Candidate, ...]
    judge: Fits
    fits: Fits

    @property
    def real(self) -> tuple[Example, ...]:
        """The real rows that they learned from."""
        return self.judge.real

    @property
    def drafts(self) -> tuple[Draft, ...]:
        """The drafts, of which those with drafts learned from the ones that are not dropped."""
        return self.fits.drafts

    @property
    def found(self) -> tuple[SearchResult, ...]:
        """The settings that were searched for, by learner."""
        return tuple({found.learner: found for found in (*self.judge.found, *self.fits.found)}.values())

    def predictors(self, context: LearnerContext) -> dict[Candidate, Predictor]:
        """Read the fitted candidates."""
        read = self.fits.predictors(context)
        if any(candidate in self.judge.candidates for candidate in self.candidates):
            read |= self.judge.predictors(context)
        return {candidate: read[candidate] for candidate in self.candidates}


def fit_final(
    job: Job, judge: Fits, selected: Selected, candidates: Sequence[Candidate], *, step: Literal["fit", "compared"] = "fit"
) -> Final:
    """Fit candidates to all real rows, and those that take drafts to the selected ones too. The judge is fitted already.

    Args:
        job: the task and its learners.
        judge: what `fit_judge` gave.
        selected: the drafts.
        candidates: what is fitted.
        step: "fit" for what can ship, "compared" for what is measured beside it: nothing of it may decide what ships.
    """
    fitter = fitter_of(job)
    left = [candidate for candidate in candidates if candidate not in judge.candidates]

    def make(out: Path) -> None:
        predictors = {candidate: fitter.fit(candidate, selected.drafts) for candidate in left}
        learners = [job.learners[name] for name in dict.fromkeys(candidate.learner for candidate in left)]
        write_fits(predictors, out, job.context, seed=fitter.seed, learners=learners)

    extra = {"candidates": [str(candidate) for candidate in left], **fitting_key(job)}
    done = job.folder.step(STEPS[step], make, config=settings_of(job.task.config), extra=extra)
    return Final(tuple(candidates), judge, read_fits(done, fitter.real, selected.drafts))
