"""The final fit to all real rows and the selected drafts: the candidates that may ship, and those that the report compares."""

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
    """The candidates that were fitted to all real rows; the judge may be one of them."""

    candidates: tuple[Candidate, ...]
    judge: Fits
    fits: Fits

    @property
    def real(self) -> tuple[Example, ...]:
        """The real rows that the candidates were fitted to."""
        return self.judge.real

    @property
    def drafts(self) -> tuple[Draft, ...]:
        """The drafts. Candidates with drafts were fitted to those that are not dropped."""
        return self.fits.drafts

    @property
    def found(self) -> tuple[SearchResult, ...]:
        """The result of the hyper-parameter search of each learner."""
        return tuple({result.learner: result for result in (*self.judge.found, *self.fits.found)}.values())

    def predictors(self, context: LearnerContext) -> dict[Candidate, Predictor]:
        """Read the fitted candidates from their folders."""
        predictors = self.fits.predictors(context)
        if any(candidate in self.judge.candidates for candidate in self.candidates):
            predictors |= self.judge.predictors(context)
        return {candidate: predictors[candidate] for candidate in self.candidates}


def fit_final(
    job: Job, judge: Fits, selected: Selected, candidates: Sequence[Candidate], *, step: Literal["fit", "compared"] = "fit"
) -> Final:
    """Fit candidates to all real rows, and those that take drafts to the selected drafts too. The judge is not fitted again.

    The step is "fit" for candidates that may ship, "compared" for those that are only reported and must not affect what ships.
    """
    fitter = fitter_of(job)
    unfitted = [candidate for candidate in candidates if candidate not in judge.candidates]

    def make(out: Path) -> None:
        predictors = {candidate: fitter.fit(candidate, selected.drafts) for candidate in unfitted}
        learners = [job.learners[name] for name in dict.fromkeys(candidate.learner for candidate in unfitted)]
        write_fits(predictors, out, job.context, seed=fitter.seed, learners=learners)

    extra = {"candidates": [str(candidate) for candidate in unfitted], **fitting_key(job)}
    done = job.folder.step(STEPS[step], make, config=settings_of(job.task.config), extra=extra)
    return Final(tuple(candidates), judge, read_fits(done, fitter, selected.drafts))
