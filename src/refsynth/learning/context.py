"""What learners are made with, and the table of how each is made.

Beside `build` and `searching` the only reader of the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from refsynth.core.code import code_of
from refsynth.core.config import ENSEMBLES, RunConfig
from refsynth.core.errors import ConfigError
from refsynth.core.protocols import Generator, Learner
from refsynth.core.run import digest, file_digest
from refsynth.core.sections import EnsembleConfig, EnsembleName, LearnerName, MethodName, PromptingConfig, TrainingConfig
from refsynth.core.task import Task
from refsynth.core.windows import Windows
from refsynth.kinds import KINDS, ONE_LABEL, Kind
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.learning.candidates import ranked
from refsynth.learning.crf import CrfLearner
from refsynth.learning.ensemble import DistilledLearner, EnsembleLearner, RememberedLearner, Rule
from refsynth.learning.head import Link
from refsynth.learning.prompting.learner import Manner, PromptLearner
from refsynth.learning.prompting.templates import templates_for
from refsynth.learning.search import SearchedLearner, Settings
from refsynth.learning.searching import Searching, searching_of, space_of, usual_settings
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS, Size
from refsynth.learning.tuning.objective import Robust
from refsynth.learning.tuning.soup import SoupLearner
from refsynth.learning.tuning.trainer import Recipe
from refsynth.models.catalog import encoder_for
from refsynth.models.device import device_named, has_bfloat16
from refsynth.models.network import TransformerEncoder
from refsynth.models.reference.folder import weights_of

USUAL = EnsembleConfig()


@dataclass(frozen=True)
class LearnerContext:
    """What learners are made with: the labels, the language, and the encoder they start from, loaded once.

    `members` are the learners that ensembles join; `unlabelled` are texts that a student may learn from.
    """

    labels: tuple[str, ...]
    descriptions: Mapping[str, str]
    language: str
    encoder: TransformerEncoder
    encoder_hash: str
    training: TrainingConfig
    checkpoints: Path | None
    causal: Path | None
    prompting: PromptingConfig
    reference: Callable[[], Generator] | None
    kind: Kind = ONE_LABEL
    members: tuple[LearnerName, ...] = ()
    ensemble: EnsembleConfig = USUAL
    search: Searching | None = None
    unlabelled: tuple[str, ...] = ()

    @property
    def link(self) -> Link:
        """How logits of texts become probabilities."""
        return "sigmoid" if self.kind.several else "softmax"


def make_context(
    task: Task,
    language: str,
    encoder: Path,
    *,
    max_tokens: int,
    checkpoints: Path | None = None,
    causal: Path | None = None,
    reference: Callable[[], Generator] | None = None,
    windows: Windows = "cut",
    unlabelled: tuple[str, ...] = (),
) -> LearnerContext:
    """Return what learners are made with, the encoder being that in a folder.

    Args:
        task: what is asked.
        language: of the texts.
        encoder: the folder.
        max_tokens: the longest text.
        checkpoints: folder of what a training that was killed goes on from.
        causal: folder of the reference's weights, if a learner trains them.
        reference: makes the reference, for a learner that asks it.
        windows: what is read of longer ones.
        unlabelled: texts that a student may learn from.

    Raises:
        ConfigError: this processor has not what the configuration asks for.
    """
    spec, training, device = encoder_for(language), task.config.training, device_named(task.config.device)
    if training.precision == "bfloat16" and not has_bfloat16(device):
        raise ConfigError(
            "training.precision: this device does not multiply bfloat16, and emulating it is slower than float32",
            remedy="leave it out: auto takes what is fast here",
        )
    loaded = TransformerEncoder(encoder, prefix=spec.prefix, max_tokens=max_tokens, windows=windows, device=device)
    weights = [encoder / "model.safetensors", *(sorted(causal.glob("*.safetensors")) if causal is not None else ())]
    begun = digest([*map(file_digest, weights), loaded.prefix, loaded.max_tokens, loaded.windows])
    kind = KINDS[task.config.task]
    return LearnerContext(
        task.labels,
        task.descriptions,
        language,
        loaded,
        begun,
        training,
        checkpoints,
        causal,
        task.config.prompting,
        reference,
        kind,
        members=tuple(ranked(task.config.members)),
        ensemble=task.config.ensemble,
        search=searching_of(task.config, checkpoints),
        unlabelled=unlabelled,
    )


def prompt_learner(context: LearnerContext) -> PromptLearner:
    """Return the learner that asks the reference.

    Raises:
        ConfigError: there is no reference, or the templates cannot be used.
    """
    if context.reference is None:
        raise ConfigError("learners: prompt needs a reference", remedy="name one in task.yaml: reference")
    asked = context.prompting
    return PromptLearner(
        context.descriptions,
        context.reference,
        context.encoder,
        manner=Manner(asked.method, asked.shots, asked.examples, asked.calibration, asked.proposals),
        templates=templates_for(context.language, asked.templates),
        language=context.language,
    )


def _causal_lora(context: LearnerContext) -> Learner:
    """Return the learner that fine-tunes the reference as a classifier.

    Raises:
        ConfigError: there is no reference.
    """
    if context.causal is None:
        raise ConfigError("learners: causal_lora needs the weights of a reference", remedy="fetch them: refsynth models fetch")
    read = context.encoder
    encoder = TransformerEncoder(
        context.causal, prefix=read.prefix, max_tokens=read.max_tokens, windows=read.windows, device=read.device
    )
    return _tuned(replace(context, encoder=encoder), method="lora")


def _tuned(context: LearnerContext, *, method: MethodName) -> Learner:
    """Return the learner that fine-tunes the encoder by a method."""
    training = context.training
    recipe = Recipe(
        epochs=training.epochs,
        batch=training.batch,
        rate=training.rate or METHODS[method].rate,
        warmup=training.warmup,
        passes=training.passes,
        patience=training.patience,
        l2=training.l2,
        averaging=training.averaging,
        bfloat16=None if training.precision == "auto" else training.precision == "bfloat16",
    )
    return FinetuneLearner(
        context.labels,
        context.encoder,
        method=method,
        recipe=recipe,
        size=Size(training.rank, training.prompt, training.bottleneck),
        dropout=training.dropout,
        robust=Robust(training.smoothing, training.mixup, training.adversarial, training.rdrop),
        checkpointing=training.checkpointing,
        checkpoints=context.checkpoints,
        link="tags" if context.kind.spans else context.link,
    )


def _searched(context: LearnerContext, *, method: MethodName) -> Learner:
    """Return the learner that fine-tunes by a method, with settings as the task has them or as a search finds them."""
    if context.search is None:
        return _tuned(context, method=method)

    def make(settings: Settings) -> Learner:
        return _tuned(replace(context, training=context.training.model_copy(update=settings)), method=method)

    usual = usual_settings(context.training, method)
    asked = context.search
    return SearchedLearner(
        method,
        make,
        space_of(context.training, usual),
        usual,
        labels=context.labels,
        minutes=asked.minutes,
        trials=asked.trials,
        folder=asked.folder,
        about=digest([context.training.model_dump(mode="json"), context.encoder_hash, code_of(__name__)]),
        link=context.link,
    )


def learners_key(config: RunConfig, language: str) -> dict[str, Any]:
    """Return what is in the files that the learner `prompt` reads, for a step's key; nothing where it is not among them.

    Raises:
        ConfigError: the templates cannot be used.
    """
    if "prompt" not in config.learners:
        return {"reference.folder": None, "prompting.templates": None}
    templates = [template.model_dump() for template in templates_for(language, config.prompting.templates)]
    return {"reference.folder": weights_of(config), "prompting.templates": templates}


def _soup(context: LearnerContext) -> Learner:
    asked = context.ensemble
    return SoupLearner(_tuned(context, method="finetune"), seeds=asked.seeds, greedy=asked.soup == "greedy", link=context.link)


Members = Mapping[LearnerName, RememberedLearner]


def _joined(context: LearnerContext, members: Members, *, rule: Rule) -> EnsembleLearner:
    return EnsembleLearner(context.labels, members, rule=rule, folds=context.ensemble.folds, link=context.link)


def _distilled(context: LearnerContext, members: Members) -> Learner:
    return DistilledLearner(_joined(context, members, rule=context.ensemble.teacher), context.unlabelled)


JOINED: Mapping[EnsembleName, Callable[[LearnerContext, Members], Learner]] = {
    "average": partial(_joined, rule="average"),
    "stacking": partial(_joined, rule="stacking"),
    "distilled": _distilled,
}
"""Learners that are made of others."""


def make_learners(context: LearnerContext, names: Iterable[LearnerName]) -> dict[LearnerName, Learner]:
    """Return learners by name, in the order of preference; ensembles share their members with each other and with the rest."""
    names = ranked(names)
    if not ENSEMBLES.intersection(names):
        return {name: LEARNERS[name](context) for name in names}
    members = {name: RememberedLearner(LEARNERS[name](context)) for name in context.members}
    made: dict[LearnerName, Learner] = {**members, **{name: join(context, members) for name, join in JOINED.items()}}
    return {name: made.get(name) or LEARNERS[name](context) for name in names}


LEARNERS: Mapping[LearnerName, Callable[[LearnerContext], Learner]] = {
    "tfidf": lambda context: TfidfLearner(context.labels, language=context.language, link=context.link),
    "frozen": lambda context: FrozenLearner(context.labels, context.encoder, link=context.link),
    "contrastive": lambda context: ContrastiveLearner(context.labels, context.encoder, context.descriptions),
    **{method: partial(_searched, method=method) for method in METHODS},
    "soup": _soup,
    "causal_lora": _causal_lora,
    "crf": lambda context: CrfLearner(context.labels),
    "prompt": prompt_learner,
}
