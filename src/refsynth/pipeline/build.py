"""The only reader of the configuration: visible tables from each kind to the function that makes the component."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.compress.contract import Contract
from refsynth.core.config import RunConfig
from refsynth.core.errors import ConfigError
from refsynth.core.protocols import Augmenter, Generator, Learner
from refsynth.core.run import digest, file_digest
from refsynth.core.sections import (
    ApertiumTranslation,
    AugmenterName,
    EndpointReference,
    FolderReference,
    LearnerName,
    MethodName,
    PromptingConfig,
    Seq2SeqTranslation,
    TrainingConfig,
)
from refsynth.data.language import UNKNOWN
from refsynth.kinds import KINDS, ONE_LABEL, Kind
from refsynth.models.catalog import encoder_for
from refsynth.models.network import TransformerEncoder, has_bfloat16
from refsynth.models.reference import EchoGenerator, EmbeddedGenerator, EndpointGenerator, FolderGenerator
from refsynth.models.reference.embedded import START, to_ctranslate2
from refsynth.models.store import ModelStore
from refsynth.prompting.learner import Manner, PromptLearner
from refsynth.prompting.templates import templates_for
from refsynth.synthesis.augment import (
    ApertiumTranslator,
    BackTranslator,
    NoiseAugmenter,
    Seq2SeqTranslator,
    SynonymAugmenter,
    WordNet,
    find_wordnet,
)
from refsynth.task import Task
from refsynth.training.baseline import FrozenLearner, TfidfLearner
from refsynth.training.contrastive import ContrastiveLearner
from refsynth.training.crf import CrfLearner
from refsynth.training.finetune import FinetuneLearner
from refsynth.training.head import Link
from refsynth.training.methods import METHODS, Size
from refsynth.training.objective import Robust
from refsynth.training.trainer import Recipe


@dataclass(frozen=True)
class Workshop:
    """What learners are made with: the labels, the language, and the encoder they start from, loaded once."""

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

    Raises:
        ConfigError: this processor has not what the configuration asks for.
    """
    spec, training = encoder_for(language), task.config.training
    if training.precision == "bfloat16" and not has_bfloat16():
        raise ConfigError(
            "training.precision: this processor does not multiply bfloat16, and emulating it is slower than float32",
            remedy="leave it out: auto takes what is fast here",
        )
    loaded = TransformerEncoder(encoder, prefix=spec.prefix, max_tokens=min(max_tokens, spec.max_tokens))
    begun = file_digest(encoder / "model.safetensors")
    if causal is not None:
        begun = digest([begun, *(file_digest(path) for path in sorted(causal.glob("*.safetensors")))])
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
    encoder = TransformerEncoder(shop.causal, prefix=shop.encoder.prefix, max_tokens=shop.encoder.max_tokens)
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


def prompting_key(config: RunConfig, language: str) -> dict[str, Any]:
    """Return what the answers of `prompt` depend on beside the rows, for a step's cache key: of templates their content.

    Raises:
        ConfigError: the templates cannot be used.
    """
    asked = config.prompting
    templates = [template.model_dump() for template in templates_for(language, asked.templates)]
    return {**config.digest_of("reference"), "manner": asked.model_dump(exclude={"templates"}), "templates": templates}


LEARNERS: Mapping[LearnerName, Callable[[Workshop], Learner]] = {
    "tfidf": lambda shop: TfidfLearner(shop.labels, language=shop.language, link=shop.link),
    "frozen": lambda shop: FrozenLearner(shop.labels, shop.encoder, link=shop.link),
    "contrastive": lambda shop: ContrastiveLearner(shop.labels, shop.encoder, shop.descriptions),
    **{method: partial(_tuned, method=method) for method in METHODS},
    "causal_lora": _causal_lora,
    "crf": lambda shop: CrfLearner(shop.labels),
    "prompt": prompt_learner,
}


def asked_of(config: RunConfig) -> Contract:
    """Return what the bundle must keep to."""
    return Contract(**config.contract.model_dump())


def make_generator(config: RunConfig, store: ModelStore) -> Generator:
    """Return the reference that the configuration names, with its decoding settings.

    Raises:
        MissingError: its weights, its extra or its key are not there.
    """
    decoding = config.synthesis.model_dump(include={"temperature", "top_p", "max_tokens"})
    match config.reference:
        case "echo":
            return EchoGenerator()
        case "embedded":
            return EmbeddedGenerator(store.path("smollm2"), **decoding)
        case FolderReference(folder=folder):
            return FolderGenerator(folder, guidance=config.synthesis.guidance, **decoding)
        case EndpointReference() as server:
            return EndpointGenerator(
                server.endpoint,
                model=server.model,
                key=os.environ.get(server.key_env),
                concurrency=server.concurrency,
                timeout=server.timeout,
                retries=server.retries,
                max_requests=server.max_requests,
                **decoding,
            )
    raise ConfigError(f"reference: {config.reference!r} is not known")


class Trainable(NamedTuple):
    """Weights of the reference that can be trained: a Hugging Face folder, and the token that opens a document, if known."""

    folder: Path
    start: str | None


def trainable(config: RunConfig, store: ModelStore) -> Trainable:
    """Return the weights of the reference that the configuration names.

    Raises:
        MissingError: they are not in the store.
        ConfigError: the reference is somewhere else.
    """
    match config.reference:
        case "embedded":
            return Trainable(store.path("smollm2-torch"), START)
        case FolderReference(folder=folder):
            return Trainable(folder, None)
    raise ConfigError(
        f"the reference {config.reference!r} has no weights here that could be trained", expected="embedded or a folder"
    )


def ready_trained(config: RunConfig, weights: Path, out: Path) -> None:
    """Turn trained weights of the reference, a Hugging Face folder, into what `make_trained` reads."""
    shutil.rmtree(out, ignore_errors=True)
    if config.reference == "embedded":
        to_ctranslate2(weights, out)
    else:
        shutil.copytree(weights, out)


def make_trained(config: RunConfig, folder: Path, *, name: str) -> Generator:
    """Return the reference with trained weights, as `ready_trained` left them, under a name for provenance."""
    decoding = config.synthesis.model_dump(include={"temperature", "top_p", "max_tokens"})
    if config.reference == "embedded":
        return EmbeddedGenerator(folder, name=name, **decoding)
    return FolderGenerator(folder, guidance=config.synthesis.guidance, **decoding)


AUGMENTERS: Mapping[AugmenterName, Callable[[], Augmenter]] = {
    "noise": NoiseAugmenter,
    "synonyms": lambda: SynonymAugmenter(WordNet(find_wordnet())),
}

AUGMENTER_LANGUAGES: Mapping[AugmenterName, str] = {"synonyms": "en"}
"""Methods that know one language only."""


def make_augmenters(config: RunConfig, language: str) -> list[Augmenter]:
    """Return the ways to augment that the configuration names.

    Args:
        config: of the run.
        language: of the texts.

    Raises:
        ConfigError: one of them does not know the language.
        MissingError: a translator, a dictionary or an extra is not there.
    """
    return [_augmenter(method, language) for method in config.synthesis.augment]


def _augmenter(method: AugmenterName | ApertiumTranslation | Seq2SeqTranslation, language: str) -> Augmenter:
    match method:
        case ApertiumTranslation(pivot=pivot):
            if language == UNKNOWN:
                raise ConfigError(
                    "synthesis.augment: back-translation needs the texts' language, which could not be told",
                    remedy="name it in task.yaml, for example language: de",
                )
            return BackTranslator(ApertiumTranslator(language, pivot), ApertiumTranslator(pivot, language))
        case Seq2SeqTranslation() as pair:
            forward = Seq2SeqTranslator(pair.forward, prefix=pair.forward_prefix)
            return BackTranslator(forward, Seq2SeqTranslator(pair.back, prefix=pair.back_prefix))
    if AUGMENTER_LANGUAGES.get(method, language) != language:
        raise ConfigError(
            f"synthesis.augment: '{method}' knows '{AUGMENTER_LANGUAGES[method]}' only, and the texts are '{language}'",
            remedy="take it out, or name the texts' language in task.yaml",
        )
    return AUGMENTERS[method]()
