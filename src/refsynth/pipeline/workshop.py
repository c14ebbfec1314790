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
from refsynth.learning.crf import CrfLearner
from refsynth.learning.ensemble import DistilledLearner, EnsembleLearner, RememberedLearner, Rule
from refsynth.learning.head import Link
from refsynth.learning.prompting.learner import Manner, PromptLearner
from refsynth.learning.prompting.templates import templates_for
from refsynth.learning.search import SearchedLearner, Settings
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS, Size
from refsynth.learning.tuning.objective import Robust
from refsynth.learning.tuning.soup import SoupLearner
from refsynth.learning.tuning.trainer import Recipe
from refsynth.models.catalog import encoder_for
from refsynth.models.device import device_named, has_bfloat16
from refsynth.models.network import TransformerEncoder
from refsynth.pipeline.build import weights_of
from refsynth.pipeline.candidates import ranked
from refsynth.pipeline.searching import Searching, searching_of, space_of, usual_settings

USUAL = EnsembleConfig()


@dataclass(frozen=True)
class Workshop:
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


def make_workshop(
    task: Task,
    language: str,
    encoder: Path,
    *,
    max_tokens: int,
    checkpoints: Path | None = None,
    causal: Path | None = None,
    reference: Callable[[], Generator] | None = None,
    windows: Windows = "cut",
) -> Workshop:
    """Return a workshop over the encoder in a folder.

    Args:
        task: what is asked.
        language: of the texts.
        encoder: the folder.
        max_tokens: the longest text.
        checkpoints: folder of what a training that was killed goes on from.
        causal: folder of the reference's weights, if a learner trains them.
        reference: makes the reference, for a learner that asks it.
        windows: what is read of longer ones.

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
    return Workshop(
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
    )


def prompt_learner(shop: Workshop) -> PromptLearner:
    """Return the learner that asks the reference.

    Raises:
        ConfigError: the workshop has no reference, or the templates cannot be used.
    """
    if shop.reference is None:
        raise ConfigError("learners: prompt needs a reference", remedy="name one in task.yaml: reference")
    asked = shop.prompting
    return PromptLearner(
        shop.descriptions,
        shop.reference,
        shop.encoder,
        manner=Manner(asked.method, asked.shots, asked.examples, asked.calibration, asked.proposals),
        templates=templates_for(shop.language, asked.templates),
        language=shop.language,
    )


def _causal_lora(shop: Workshop) -> Learner:
    """Return the learner that fine-tunes the reference as a classifier.

    Raises:
        ConfigError: the workshop has no reference.
    """
    if shop.causal is None:
        raise ConfigError("learners: causal_lora needs the weights of a reference", remedy="fetch them: refsynth models fetch")
    read = shop.encoder
    encoder = TransformerEncoder(
        shop.causal, prefix=read.prefix, max_tokens=read.max_tokens, windows=read.windows, device=read.device
    )
    return _tuned(replace(shop, encoder=encoder), method="lora")


def _tuned(shop: Workshop, *, method: MethodName) -> Learner:
    """Return the learner that fine-tunes the workshop's encoder by a method."""
    training = shop.training
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
        shop.labels,
        shop.encoder,
        method=method,
        recipe=recipe,
        size=Size(training.rank, training.prompt, training.bottleneck),
        dropout=training.dropout,
        robust=Robust(training.smoothing, training.mixup, training.adversarial, training.rdrop),
        checkpointing=training.checkpointing,
        checkpoints=shop.checkpoints,
        link="tags" if shop.kind.spans else shop.link,
    )


def _searched(shop: Workshop, *, method: MethodName) -> Learner:
    """Return the learner that fine-tunes by a method, with settings as the task has them or as a search finds them."""
    if shop.search is None:
        return _tuned(shop, method=method)

    def make(settings: Settings) -> Learner:
        return _tuned(replace(shop, training=shop.training.model_copy(update=settings)), method=method)

    usual = usual_settings(shop.training, method)
    asked = shop.search
    return SearchedLearner(
        method,
        make,
        space_of(shop.training, usual),
        usual,
        labels=shop.labels,
        minutes=asked.minutes,
        trials=asked.trials,
        folder=asked.folder,
        about=digest([shop.training.model_dump(mode="json"), shop.encoder_hash, code_of(__name__)]),
        link=shop.link,
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


def _soup(shop: Workshop) -> Learner:
    asked = shop.ensemble
    return SoupLearner(_tuned(shop, method="finetune"), seeds=asked.seeds, greedy=asked.soup == "greedy", link=shop.link)


Members = Mapping[LearnerName, RememberedLearner]


def _joined(shop: Workshop, members: Members, *, rule: Rule) -> EnsembleLearner:
    return EnsembleLearner(shop.labels, members, rule=rule, folds=shop.ensemble.folds, link=shop.link)


def _distilled(shop: Workshop, members: Members) -> Learner:
    return DistilledLearner(_joined(shop, members, rule=shop.ensemble.teacher), shop.unlabelled)


JOINED: Mapping[EnsembleName, Callable[[Workshop, Members], Learner]] = {
    "average": partial(_joined, rule="average"),
    "stacking": partial(_joined, rule="stacking"),
    "distilled": _distilled,
}
"""Learners that are made of others."""


def make_learners(shop: Workshop, names: Iterable[LearnerName]) -> dict[LearnerName, Learner]:
    """Return learners by name, in the order of preference; ensembles share their members with each other and with the rest."""
    names = ranked(names)
    if not ENSEMBLES.intersection(names):
        return {name: LEARNERS[name](shop) for name in names}
    members = {name: RememberedLearner(LEARNERS[name](shop)) for name in shop.members}
    made: dict[LearnerName, Learner] = {**members, **{name: join(shop, members) for name, join in JOINED.items()}}
    return {name: made.get(name) or LEARNERS[name](shop) for name in names}


LEARNERS: Mapping[LearnerName, Callable[[Workshop], Learner]] = {
    "tfidf": lambda shop: TfidfLearner(shop.labels, language=shop.language, link=shop.link),
    "frozen": lambda shop: FrozenLearner(shop.labels, shop.encoder, link=shop.link),
    "contrastive": lambda shop: ContrastiveLearner(shop.labels, shop.encoder, shop.descriptions),
    **{method: partial(_searched, method=method) for method in METHODS},
    "soup": _soup,
    "causal_lora": _causal_lora,
    "crf": lambda shop: CrfLearner(shop.labels),
    "prompt": prompt_learner,
}
