"""Builds the reference and the augmenters that the configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from refsynth.core.config import RunConfig
from refsynth.core.drafting import ApertiumTranslation, AugmenterName, Seq2SeqTranslation
from refsynth.core.errors import ConfigError
from refsynth.core.hashes import folder_digest
from refsynth.core.observe import Observer
from refsynth.core.protocols import Augmenter, Generator
from refsynth.core.references import REFERENCES
from refsynth.core.registry import load
from refsynth.data.language import UNKNOWN
from refsynth.models.reference.context import Trainable, Training, context_of
from refsynth.models.store import ModelStore
from refsynth.synthesis.augment import (
    ApertiumTranslator,
    BackTranslator,
    NoiseAugmenter,
    Seq2SeqTranslator,
    SynonymAugmenter,
    WordNet,
    find_wordnet,
)


def make_generator(config: RunConfig, store: ModelStore, folder: Path | None = None) -> Generator:
    """Return the reference that the configuration names, with its decoding settings.

    Args:
        config: the configuration of the run.
        store: holds model weights.
        folder: the run folder; a paid reference caches its answers there.

    Raises:
        MissingError: The weights, the extra or the key of the reference are missing.
        ConfigError: The reference comes from another package and cannot be imported.
    """
    generator: Generator = load(config.reference_spec.make)(context_of(config, store, folder))
    return generator


def check_reference(config: RunConfig, folder: Path, watch: Observer) -> None:
    """Check before the run whether the reference can do what the run will ask of it, if its spec has such a check.

    Raises:
        EndpointError: The reference cannot do it.
    """
    check = config.reference_spec.check
    if check and (config.synthesis.drafts or config.scoring):
        load(check)(config.reference, folder, watch, scores=bool(config.scoring))


def translator_hashes(config: RunConfig) -> list[str]:
    """Return the content hashes of the translators' folders, for a step's key."""
    pairs = [method for method in config.synthesis.augment if isinstance(method, Seq2SeqTranslation)]
    return [folder_digest(folder) for pair in pairs for folder in (pair.forward, pair.back)]


MODEL, WEIGHTS = "model", "weights"
"""Folders in a step that trained the reference: what `make_trained` reads, and a Hugging Face folder for further training."""


def _training(config: RunConfig) -> Training:
    spec = config.reference_spec
    if not spec.training:
        able = " or ".join(each.written for each in REFERENCES.values() if each.training)
        raise ConfigError(f"the reference '{spec.name}' has no weights here that could be trained", expected=able)
    training: Training = load(spec.training)
    return training


def trainable(config: RunConfig, store: ModelStore) -> Trainable:
    """Return the weights of the reference that the configuration names.

    Raises:
        MissingError: The weights are not in the store.
        ConfigError: The reference has no weights on this machine.
    """
    return _training(config).weights(context_of(config, store))


def convert_trained(config: RunConfig, weights: Path, out: Path) -> None:
    """Convert trained weights of the reference, a Hugging Face folder, into what `make_trained` reads."""
    _training(config).ready(weights, out)


def make_trained(config: RunConfig, store: ModelStore, folder: Path, *, name: str) -> Generator:
    """Return the reference with trained weights, as `convert_trained` left them, under a name for provenance."""
    return _training(config).make(context_of(config, store), folder, name)


class ReferenceSource(NamedTuple):
    """Where the reference comes from: the store, or a step that trained it (`trained`, with its `hash`)."""

    store: ModelStore
    trained: Path | None = None
    hash: str = ""

    def generator(self, config: RunConfig, folder: Path | None = None) -> Generator:
        """Return the reference; see `make_generator`.

        Raises:
            MissingError: See `make_generator`.
        """
        if self.trained is None:
            return make_generator(config, self.store, folder)
        return make_trained(config, self.store, self.trained / MODEL, name=f"pretrained:{self.hash[:12]}")

    def weights(self, config: RunConfig) -> Trainable:
        """Return the weights of the reference.

        Raises:
            RefsynthError: See `trainable`.
        """
        weights = trainable(config, self.store)
        return weights if self.trained is None else weights._replace(folder=self.trained / WEIGHTS)


AUGMENTERS: Mapping[AugmenterName, Callable[[], Augmenter]] = {
    "noise": NoiseAugmenter,
    "synonyms": lambda: SynonymAugmenter(WordNet(find_wordnet())),
}

AUGMENTER_LANGUAGES: Mapping[AugmenterName, str] = {"synonyms": "en"}
"""The language of the methods that support only one."""


def make_augmenters(config: RunConfig, language: str) -> list[Augmenter]:
    """Return the augmenters that the configuration names, for texts of a language.

    Raises:
        ConfigError: One of them does not support the language.
        MissingError: A translator, a dictionary or an extra is missing.
    """
    return [_augmenter(method, language) for method in config.synthesis.augment]


def _augmenter(method: AugmenterName | ApertiumTranslation | Seq2SeqTranslation, language: str) -> Augmenter:
    match method:
        case ApertiumTranslation(pivot=pivot):
            if language == UNKNOWN:
                raise ConfigError(
                    "synthesis.augment: back-translation needs the texts' language, which could not be detected",
                    remedy="name it in task.yaml, for example language: de",
                )
            return BackTranslator(ApertiumTranslator(language, pivot), ApertiumTranslator(pivot, language))
        case Seq2SeqTranslation() as pair:
            forward = Seq2SeqTranslator(pair.forward, prefix=pair.forward_prefix)
            return BackTranslator(forward, Seq2SeqTranslator(pair.back, prefix=pair.back_prefix))
    if AUGMENTER_LANGUAGES.get(method, language) != language:
        raise ConfigError(
            f"synthesis.augment: '{method}' supports only '{AUGMENTER_LANGUAGES[method]}', and the texts are '{language}'",
            remedy="remove it, or name the texts' language in task.yaml",
        )
    return AUGMENTERS[method]()
