"""Settings of a task that have no effect; a run names them at its start."""

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
    """Return a line for each setting or section that nothing reads, with the reason."""
    learners, drafts = config.learners, config.synthesis.drafts
    unlabeled = config.data.train is None and config.data.more is None
    specs = [LEARNERS[name] for name in learners]
    tuned, joined = any(spec.stops for spec in specs), any(spec.joins for spec in specs)
    encoder = any(spec.reads == "encoder" for spec in specs)
    patience_changed = config.training.patience != TrainingConfig().patience
    unused = {
        "training: none of the learners is fine-tuned": config.training != TrainingConfig() and not tuned,
        "training.patience: training.validation is 0": patience_changed and not config.training.validation,
        "ensemble: no ensemble is among the learners": config.ensemble != EnsembleConfig() and not joined,
        "prompting: prompt is not among the learners": config.prompting != PromptingConfig() and "prompt" not in learners,
        "search: search.minutes is 0": config.search != SearchConfig() and not config.search.minutes,
        "selftrain: there is no data.pool": config.selftrain != SelftrainConfig() and config.data.pool is None,
        "pretrain.encoder: no learner has an encoder": config.pretrain.encoder > 0 and not encoder,
        "pretrain.reference: synthesis.drafts is 0": config.pretrain.reference > 0 and not drafts,
        "unsure: there are no labeled rows to choose a threshold by": config.unsure != UnsureConfig() and unlabeled,
        "data.none: there are no labeled rows to set a bar by": config.data.none is not None and unlabeled,
        "reinforce.iterations: synthesis.drafts is 0": config.reinforce.iterations > 0 and not drafts,
        "synthesis.rounds: synthesis.drafts is 0": config.synthesis.rounds > 1 and not drafts,
    }
    unused |= _of_files(config.data)
    return [f"{setting}, so that it has no effect" for setting, is_unused in unused.items() if is_unused]


def _of_files(data: DataConfig) -> dict[str, bool]:
    """Return for each setting of how files are read whether no file uses it. data.more is left out, since its form is fixed."""
    forms = {form_of(path) for path in (data.train, data.pool, data.test) if path is not None}
    reasons = {
        "delimiter": "no file is CSV",
        "encoding": "no file is text",
        "quoting": "no file is CSV",
        "sheet": "no file is a workbook",
    }
    written = {name for name, value in data.written.items() if value is not None}
    return {
        f"data.{name}: {reason}": name in written and not any(form is None or has_use(name, form) for form in forms)
        for name, reason in reasons.items()
    }
