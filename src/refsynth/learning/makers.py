"""The functions that make each learner from a `LearnerContext`; `core.learners` names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from refsynth.core.code import code_of
from refsynth.core.errors import ConfigError
from refsynth.core.hashes import digest
from refsynth.core.learners import LEARNERS, LearnerName, MethodName
from refsynth.core.protocols import Learner
from refsynth.core.registry import load
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.learning.candidates import ranked
from refsynth.learning.context import LearnerContext
from refsynth.learning.crf import CrfLearner
from refsynth.learning.ensemble import DistilledLearner, EnsembleLearner, RememberedLearner, Rule
from refsynth.learning.prompting.learner import PromptLearner, PromptOptions
from refsynth.learning.prompting.templates import templates_for
from refsynth.learning.search import SearchedLearner, Settings, space_of, usual_settings
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS, Size
from refsynth.learning.tuning.objective import Robust
from refsynth.learning.tuning.soup import SoupLearner
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.network import TransformerEncoder

Members = Mapping[LearnerName, RememberedLearner]


def make_learner(name: LearnerName, context: LearnerContext) -> Learner:
    """Return a learner that is no ensemble.

    Raises:
        RefsynthError: something that it needs is missing.
    """
    made: Learner = load(LEARNERS[name].make)(context)
    return made


def make_learners(context: LearnerContext, names: Iterable[LearnerName]) -> dict[LearnerName, Learner]:
    """Return learners by name, in the order of preference. An ensemble shares its members with the other learners."""
    order = ranked(names)
    if not any(LEARNERS[name].joins for name in order):
        return {name: make_learner(name, context) for name in order}
    members = {name: RememberedLearner(make_learner(name, context)) for name in context.members}

    def make(name: LearnerName) -> Learner:
        ensemble: Learner = load(LEARNERS[name].make)(context, members)
        return ensemble

    return {name: members.get(name) or (make(name) if LEARNERS[name].joins else make_learner(name, context)) for name in order}


def tfidf(context: LearnerContext) -> TfidfLearner:
    """Return the learner `tfidf`."""
    return TfidfLearner(context.labels, language=context.language, link=context.link)


def frozen(context: LearnerContext) -> FrozenLearner:
    """Return the learner `frozen`."""
    return FrozenLearner(context.labels, context.encoder, link=context.link)


def contrastive(context: LearnerContext) -> ContrastiveLearner:
    """Return the learner `contrastive`."""
    return ContrastiveLearner(context.labels, context.encoder, context.descriptions)


def crf(context: LearnerContext) -> CrfLearner:
    """Return the learner `crf`."""
    return CrfLearner(context.labels)


def prompt(context: LearnerContext) -> PromptLearner:
    """Return the learner `prompt`.

    Raises:
        ConfigError: the task has no reference, or the templates cannot be used.
    """
    if context.reference is None:
        raise ConfigError("learners: prompt needs a reference", remedy="name one in task.yaml: reference")
    section = context.prompting
    return PromptLearner(
        context.descriptions,
        context.reference,
        context.encoder,
        options=PromptOptions(section.method, section.shots, section.examples, section.calibration, section.proposals),
        templates=templates_for(context.language, section.templates),
        language=context.language,
    )


def causal_lora(context: LearnerContext) -> Learner:
    """Return the learner that fine-tunes the reference as a classifier.

    Raises:
        ConfigError: the weights of the reference are missing.
    """
    if context.causal is None:
        raise ConfigError("learners: causal_lora needs the weights of a reference", remedy="fetch them: refsynth models fetch")
    usual = context.encoder
    encoder = TransformerEncoder(
        context.causal, prefix=usual.prefix, max_tokens=usual.max_tokens, windows=usual.windows, device=usual.device
    )
    return _tuned(replace(context, encoder=encoder), method="lora")


def _tuned(context: LearnerContext, *, method: MethodName) -> Learner:
    training = context.training
    recipe = TrainingRecipe(
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate or METHODS[method].rate,
        warmup_ratio=training.warmup_ratio,
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        patience=training.patience,
        weight_decay=training.weight_decay,
        averaging=training.averaging,
        bfloat16=None if training.precision == "auto" else training.precision == "bfloat16",
    )
    return FinetuneLearner(
        context.labels,
        context.encoder,
        method=method,
        recipe=recipe,
        size=Size(training.rank, training.virtual_tokens, training.bottleneck),
        dropout=training.dropout,
        robust=Robust(training.label_smoothing, training.mixup, training.adversarial, training.rdrop),
        checkpointing=training.gradient_checkpointing,
        checkpoints=context.checkpoints,
        link="tags" if context.kind.words else context.link,
    )


def _searched(context: LearnerContext, *, method: MethodName) -> Learner:
    """Return the learner that fine-tunes by a method, with the settings of the task or those that a search finds."""
    if context.search is None:
        return _tuned(context, method=method)

    def make(settings: Settings) -> Learner:
        return _tuned(replace(context, training=context.training.model_copy(update=settings)), method=method)

    usual = usual_settings(context.training, method)
    return SearchedLearner(
        method,
        make,
        space_of(context.training, usual),
        usual,
        labels=context.labels,
        minutes=context.search.minutes,
        trials=context.search.trials,
        folder=context.search.folder,
        about=digest([context.training.model_dump(mode="json"), context.encoder_hash, code_of(__name__)]),
        link=context.link,
    )


finetune = partial(_searched, method="finetune")
head = partial(_searched, method="head")
bitfit = partial(_searched, method="bitfit")
lora = partial(_searched, method="lora")
adalora = partial(_searched, method="adalora")
ia3 = partial(_searched, method="ia3")
prefix_tuning = partial(_searched, method="prefix_tuning")
p_tuning = partial(_searched, method="p_tuning")
prompt_tuning = partial(_searched, method="prompt_tuning")
houlsby = partial(_searched, method="houlsby")


def soup(context: LearnerContext) -> SoupLearner:
    """Return the learner that averages the weights of several fits."""
    section = context.ensemble
    member = _tuned(context, method="finetune")
    return SoupLearner(member, seeds=section.seeds, greedy=section.soup == "greedy", link=context.link)


def _ensemble(context: LearnerContext, members: Members, *, rule: Rule) -> EnsembleLearner:
    return EnsembleLearner(context.labels, members, rule=rule, folds=context.ensemble.folds, link=context.link)


average = partial(_ensemble, rule="average")
stacking = partial(_ensemble, rule="stacking")


def distilled(context: LearnerContext, members: Members) -> DistilledLearner:
    """Return the learner that distills an ensemble of the others into one model."""
    return DistilledLearner(_ensemble(context, members, rule=context.ensemble.teacher), context.unlabeled)
