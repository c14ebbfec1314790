"""How each learner is made of a `LearnerContext`: the functions that `core.learners` names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from refsynth.core.code import code_of
from refsynth.core.errors import ConfigError
from refsynth.core.learners import LEARNERS, LearnerName, MethodName
from refsynth.core.protocols import Learner
from refsynth.core.registry import load
from refsynth.core.run import digest
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.learning.candidates import ranked
from refsynth.learning.context import LearnerContext
from refsynth.learning.crf import CrfLearner
from refsynth.learning.ensemble import DistilledLearner, EnsembleLearner, RememberedLearner, Rule
from refsynth.learning.prompting.learner import PromptLearner, PromptOptions
from refsynth.learning.prompting.templates import templates_for
from refsynth.learning.search import SearchedLearner, Settings
from refsynth.learning.searching import space_of, usual_settings
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS, Size
from refsynth.learning.tuning.objective import Robust
from refsynth.learning.tuning.soup import SoupLearner
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.network import TransformerEncoder

Members = Mapping[LearnerName, RememberedLearner]


def make_learner(name: LearnerName, context: LearnerContext) -> Learner:
    """Return a learner that joins no others.

    Raises:
        RefsynthError: something that it needs is not there.
    """
    made: Learner = load(LEARNERS[name].make)(context)
    return made


def make_learners(context: LearnerContext, names: Iterable[LearnerName]) -> dict[LearnerName, Learner]:
    """Return learners by name, in the order of preference; ensembles share their members with each other and with the rest."""
    order = ranked(names)
    if not any(LEARNERS[name].joins for name in order):
        return {name: make_learner(name, context) for name in order}
    members = {name: RememberedLearner(make_learner(name, context)) for name in context.members}

    def make(name: LearnerName) -> Learner:
        joined: Learner = load(LEARNERS[name].make)(context, members)
        return joined

    return {name: members.get(name) or (make(name) if LEARNERS[name].joins else make_learner(name, context)) for name in order}


def tfidf(context: LearnerContext) -> TfidfLearner:
    """Return the learner of TF-IDF."""
    return TfidfLearner(context.labels, language=context.language, link=context.link)


def frozen(context: LearnerContext) -> FrozenLearner:
    """Return the learner on frozen embeddings."""
    return FrozenLearner(context.labels, context.encoder, link=context.link)


def contrastive(context: LearnerContext) -> ContrastiveLearner:
    """Return the learner that tunes the encoder by pairs."""
    return ContrastiveLearner(context.labels, context.encoder, context.descriptions)


def crf(context: LearnerContext) -> CrfLearner:
    """Return the CRF."""
    return CrfLearner(context.labels)


def prompt(context: LearnerContext) -> PromptLearner:
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
        options=PromptOptions(asked.method, asked.shots, asked.examples, asked.calibration, asked.proposals),
        templates=templates_for(context.language, asked.templates),
        language=context.language,
    )


def causal_lora(context: LearnerContext) -> Learner:
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


finetune, head, bitfit, lora, adalora, ia3, prefix_tuning, p_tuning, prompt_tuning, houlsby = (
    partial(_searched, method=method)
    for method in (
        "finetune",
        "head",
        "bitfit",
        "lora",
        "adalora",
        "ia3",
        "prefix_tuning",
        "p_tuning",
        "prompt_tuning",
        "houlsby",
    )
)


def soup(context: LearnerContext) -> SoupLearner:
    """Return the learner that averages the weights of several fits."""
    asked = context.ensemble
    return SoupLearner(_tuned(context, method="finetune"), seeds=asked.seeds, greedy=asked.soup == "greedy", link=context.link)


def _joined(context: LearnerContext, members: Members, *, rule: Rule) -> EnsembleLearner:
    return EnsembleLearner(context.labels, members, rule=rule, folds=context.ensemble.folds, link=context.link)


def distilled(context: LearnerContext, members: Members) -> DistilledLearner:
    """Return the learner that learns what the others say together."""
    return DistilledLearner(_joined(context, members, rule=context.ensemble.teacher), context.unlabeled)


average, stacking = (partial(_joined, rule=rule) for rule in ("average", "stacking"))
