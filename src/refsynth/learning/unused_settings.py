"""What a task asks for that will make no difference, told at the start of a run."""

from __future__ import annotations

from refsynth.core.config import RunConfig
from refsynth.core.learners import LEARNERS
from refsynth.core.sections import (
    DataConfig,
    EnsembleConfig,
    PromptingConfig,
    SearchConfig,
    SelftrainConfig,
    TrainingConfig,
    UnsureConfig,
)
from refsynth.data.records import form_of
from refsynth.data.table import has_use


def without_effect(config: RunConfig) -> list[str]:
    """Return a line for each section of a task that nothing will read, with what it lacks."""
    learners, drafts = set(config.learners), config.synthesis.drafts
    unlabeled = config.data.train is None and config.data.more is None
    tuned = any(LEARNERS[name].stops for name in learners)
    idle = {
        "training: none of the learners is fine-tuned": config.training != TrainingConfig() and not tuned,
        "training.patience: training.validation is 0": config.training.patience != TrainingConfig().patience
        and not config.training.validation,
        "ensemble: no ensemble is among the learners": config.ensemble != EnsembleConfig()
        and not any(LEARNERS[name].joins for name in learners),
        "prompting: prompt is not among the learners": config.prompting != PromptingConfig() and "prompt" not in learners,
        "search: search.minutes is 0": config.search != SearchConfig() and not config.search.minutes,
        "selftrain: there is no data.pool": config.selftrain != SelftrainConfig() and config.data.pool is None,
        "pretrain.encoder: no learner has an encoder": config.pretrain.encoder > 0
        and not any(LEARNERS[name].reads == "encoder" for name in learners),
        "pretrain.reference: synthesis.drafts is 0": config.pretrain.reference > 0 and not drafts,
        "unsure: there are no labeled rows to choose a threshold by": config.unsure != UnsureConfig() and unlabeled,
        "data.none: there are no labeled rows to set a bar by": config.data.none is not None and unlabeled,
        "reinforce.iterations: synthesis.drafts is 0": config.reinforce.iterations > 0 and not drafts,
        "synthesis.rounds: synthesis.drafts is 0": config.synthesis.rounds > 1 and not drafts,
    }
    idle |= _of_files(config.data)
    return [f"{what}, so that it has no effect" for what, is_so in idle.items() if is_so]


def _of_files(data: DataConfig) -> dict[str, bool]:
    """Return what is said of how files are read, and whether it is of use for none of them; data.more is as we write it."""
    forms = {form_of(path) for path in (data.train, data.pool, data.test) if path is not None}
    what = {
        "delimiter": "no file is CSV",
        "encoding": "no file is text",
        "quoting": "no file is CSV",
        "sheet": "no file is a workbook",
    }
    said = {name for name, value in data.written.items() if value is not None}
    return {
        f"data.{name}: {why}": name in said and not any(form is None or has_use(name, form) for form in forms)
        for name, why in what.items()
    }
