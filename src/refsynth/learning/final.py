"""The final fit: every candidate on all real rows, kept on disk so that evaluation and export need not train again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from refsynth.core.protocols import Predictor
from refsynth.core.run import derive_seed, read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import Draft, Example, kept
from refsynth.learning.artifact import load_predictors, save_predictors
from refsynth.learning.candidates import Candidate, fit_candidates
from refsynth.learning.context import LearnerContext
from refsynth.learning.ensemble import EnsemblePredictor, RememberedLearner
from refsynth.learning.job import Job, fitting_key
from refsynth.learning.makers import make_learner, prompt
from refsynth.learning.prompting.classify import PromptPredictor
from refsynth.learning.rows import Rows
from refsynth.learning.search import Found, SearchedLearner
from refsynth.learning.selftrain import Choose, from_pool
from refsynth.models.predict import EncoderPredictor
from refsynth.models.tagger import TagPredictor

PROMPT = "prompt.json"


@dataclass(frozen=True)
class Final:
    """The finished candidates, the drafts with the reasons for which they were left out, and the settings that were found."""

    folder: Path
    candidates: tuple[Candidate, ...]
    drafts: tuple[Draft, ...]
    real: tuple[Example, ...]
    found: tuple[Found, ...] = ()

    @property
    def from_pool(self) -> tuple[Draft, ...]:
        """The drafts that are texts of the pool."""
        return tuple(draft for draft in self.drafts if from_pool(draft.example))

    @property
    def generated(self) -> tuple[Draft, ...]:
        """The drafts that are not."""
        return tuple(draft for draft in self.drafts if not from_pool(draft.example))

    def predictors(self, context: LearnerContext) -> dict[Candidate, Predictor]:
        """Return the fitted candidates; TF-IDF and a CRF, which are fitted in no time, are fitted again."""
        loaded = load_predictors(self.folder, context.labels, base=context.encoder)
        if (found := self.folder / PROMPT).exists():
            record = read_json(found)
            loaded["prompt"] = prompt(context).recalled(record["predictor"], self.real, seed=record["seed"])
        return {candidate: loaded.get(str(candidate)) or self._again(candidate, context) for candidate in self.candidates}

    def _again(self, candidate: Candidate, context: LearnerContext) -> Predictor:
        rows = [*self.real, *(kept(self.drafts) if candidate.drafts else ())]
        return make_learner(candidate.learner, context).fit(rows, (), seed=0)


def real_rows(task: Task, rows: Rows) -> tuple[Example, ...]:
    """Return what stands for real rows in training: the user's, or without any the labels' descriptions."""
    if rows.examples:
        return rows.examples
    return tuple(Example(f"label-{label}", text, label) for label, text in task.descriptions.items())


def fit_final(job: Job, drafts: Sequence[Draft], choose: Choose) -> Final:
    """Return all candidates fitted to all real rows, and to the drafts that `choose` takes."""
    task, context, learners = job.task, job.context, job.learners
    real = real_rows(task, job.rows)

    def make(out: Path) -> None:
        seed = derive_seed(task.config.seed, "final")
        fitted = fit_candidates(learners, real, drafts, choose, seed=seed, dev=task.config.training.dev, kind=context.kind)
        kept_on_disk = (EncoderPredictor, TagPredictor, EnsemblePredictor)
        models = {str(name): model for name, model in fitted.predictors.items() if isinstance(model, kept_on_disk)}
        save_predictors(models, out, base=context.encoder)
        for model in fitted.predictors.values():
            if isinstance(model, PromptPredictor):
                write_json(out / PROMPT, {"predictor": model.to_json(), "seed": seed})
        write_jsonl(out / "drafts.jsonl", [draft.to_json() for draft in fitted.drafts])
        alone = [learner.learner if isinstance(learner, RememberedLearner) else learner for learner in learners.values()]
        found = [learner.last._asdict() for learner in alone if isinstance(learner, SearchedLearner) and learner.last]
        write_json(out / "facts.json", {"candidates": list(fitted.predictors), "found": found})

    done = job.folder.step(STEPS["fit"], make, config=settings_of(task.config), extra=fitting_key(job, drafts))
    facts = read_json(done / "facts.json")
    candidates = tuple(Candidate(*pair) for pair in facts["candidates"])
    found = tuple(Found(**record) for record in facts.get("found", ()))
    return Final(done, candidates, tuple(Draft.from_json(record) for record in read_jsonl(done / "drafts.jsonl")), real, found)
