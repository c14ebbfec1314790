"""Fitted candidates on disk, so that evaluation and export need not train again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refsynth.core.files import read_json, write_json
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.types import Draft, Example
from refsynth.learning.artifact import can_save, load_predictors, save_predictors
from refsynth.learning.candidates import Candidate, Fitter
from refsynth.learning.context import LearnerContext
from refsynth.learning.ensemble import RememberedLearner
from refsynth.learning.makers import prompt
from refsynth.learning.prompting.classify import PromptPredictor
from refsynth.learning.search import SearchedLearner, SearchResult

FACTS, PROMPT = "facts.json", "prompt.json"


@dataclass(frozen=True)
class Fits:
    """Fitted candidates in the folder of a step, the fitter and drafts that they were fitted with, and their search results."""

    folder: Path
    candidates: tuple[Candidate, ...]
    found: tuple[SearchResult, ...]
    fitter: Fitter
    drafts: tuple[Draft, ...] = ()

    @property
    def real(self) -> tuple[Example, ...]:
        """The real rows that they were fitted to."""
        return tuple(self.fitter.real)

    def predictors(self, context: LearnerContext) -> dict[Candidate, Predictor]:
        """Read the fitted candidates. Those that cannot be saved are fitted again, with the same rows, settings and seed."""
        loaded = load_predictors(self.folder, context.labels, base=context.encoder)
        if (kept_prompt := self.folder / PROMPT).exists():
            record = read_json(kept_prompt)
            loaded["prompt"] = prompt(context).recalled(record["predictor"], self.real, seed=record["seed"])
        return {candidate: loaded.get(str(candidate)) or self.fitter.fit(candidate, self.drafts) for candidate in self.candidates}


def write_fits(
    predictors: Mapping[Candidate, Predictor], out: Path, context: LearnerContext, *, seed: int, learners: Iterable[Learner]
) -> None:
    """Write fitted candidates into the folder of a step, with the seed of the fit and the search results of their learners."""
    models = {str(candidate): model for candidate, model in predictors.items() if can_save(model)}
    save_predictors(models, out, base=context.encoder)
    for model in predictors.values():
        if isinstance(model, PromptPredictor):
            write_json(out / PROMPT, {"predictor": model.to_json(), "seed": seed})
    plain = [learner.learner if isinstance(learner, RememberedLearner) else learner for learner in learners]
    found = [learner.last._asdict() for learner in plain if isinstance(learner, SearchedLearner) and learner.last]
    write_json(out / FACTS, {"candidates": list(predictors), "found": found})


def read_fits(folder: Path, fitter: Fitter, drafts: Sequence[Draft] = ()) -> Fits:
    """Return what `write_fits` wrote; `Fits.predictors` reads the models.

    Args:
        folder: the folder of the step.
        fitter: what fitted them.
        drafts: the drafts that they were fitted to.
    """
    facts = read_json(folder / FACTS)
    candidates = tuple(Candidate(*pair) for pair in facts["candidates"])
    return Fits(folder, candidates, tuple(SearchResult(**record) for record in facts["found"]), fitter, tuple(drafts))
