"""The only reader of the configuration: visible tables from each kind to the function that makes the component."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from refsynth.core.config import RunConfig
from refsynth.core.drafting import ApertiumTranslation, AugmenterName, EndpointReference, FolderReference, Seq2SeqTranslation
from refsynth.core.errors import ConfigError
from refsynth.core.protocols import Augmenter, Generator
from refsynth.core.run import folder_digest
from refsynth.data.language import UNKNOWN
from refsynth.models.reference import (
    EchoGenerator,
    EmbeddedGenerator,
    FolderGenerator,
    RememberedScores,
)
from refsynth.models.reference.embedded import START, to_ctranslate2
from refsynth.models.reference.probe import Found
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
from refsynth.synthesis.server import make_endpoint, probe_server, probed


def make_generator(config: RunConfig, store: ModelStore, found: Found | None = None) -> Generator:
    """Return the reference that the configuration names, with its decoding settings.

    Args:
        config: of the run.
        store: where weights are.
        found: what the server can do, if that is known.

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
            return FolderGenerator(folder, device=config.device, **decoding)
        case EndpointReference() as server:
            return make_endpoint(server, found or probe_server(server), **decoding)
    raise ConfigError(f"reference: {config.reference!r} is not known")


SCORES = "scores.jsonl"
"""The file in a run's folder of what an endpoint has said of texts."""


def make_remembering(config: RunConfig, store: ModelStore, folder: Path) -> Generator:
    """Return the reference; of an endpoint, which may be paid, no score is asked for that is in the run's folder.

    Raises:
        MissingError: see `make_generator`.
    """
    if not isinstance(config.reference, EndpointReference):
        return make_generator(config, store)
    made = make_generator(config, store, probed(config.reference, folder))
    return RememberedScores(made, folder / SCORES, identity=f"{config.reference.endpoint} {made.name}")


def translators_of(config: RunConfig) -> list[str]:
    """Return the hashes of what is in the folders of translators, for a step's key."""
    pairs = [method for method in config.synthesis.augment if isinstance(method, Seq2SeqTranslation)]
    return [folder_digest(folder) for pair in pairs for folder in (pair.forward, pair.back)]


MODEL, WEIGHTS = "model", "weights"
"""In a step in which the reference learnt: what `make_trained` reads, and a Hugging Face folder to learn further with."""


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
    return FolderGenerator(folder, device=config.device, **decoding)


class Source(NamedTuple):
    """Where the reference comes from: the store, or a step in which it learnt, with its hash."""

    store: ModelStore
    learnt: Path | None = None
    hash: str = ""

    def generator(self, config: RunConfig) -> Generator:
        """Return the reference.

        Raises:
            MissingError: see `make_generator`.
        """
        if self.learnt is None:
            return make_generator(config, self.store)
        return make_trained(config, self.learnt / MODEL, name=f"pretrained:{self.hash[:12]}")

    def weights(self, config: RunConfig) -> Trainable:
        """Return its weights.

        Raises:
            RefsynthError: see `trainable`.
        """
        come = trainable(config, self.store)
        return come if self.learnt is None else come._replace(folder=self.learnt / WEIGHTS)


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
