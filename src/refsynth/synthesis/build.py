"""From the configuration to components: the reference, as its spec says, and the ways to augment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from refsynth.core.config import RunConfig
from refsynth.core.drafting import ApertiumTranslation, AugmenterName, Seq2SeqTranslation
from refsynth.core.errors import ConfigError
from refsynth.core.observe import Observer
from refsynth.core.protocols import Augmenter, Generator
from refsynth.core.references import REFERENCES
from refsynth.core.registry import load
from refsynth.core.run import folder_digest
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
        config: of the run.
        store: where weights are.
        folder: of the run, where a reference that is paid remembers what it was told.

    Raises:
        MissingError: its weights, its extra or its key are not there.
        ConfigError: another package brings it, and it cannot be imported.
    """
    made: Generator = load(config.writer.make)(context_of(config, store, folder))
    return made


def check_reference(config: RunConfig, folder: Path, watch: Observer) -> None:
    """See that the reference can do what a run will ask of it, before anything is asked, where that has to be found out.

    Raises:
        EndpointError: it cannot.
    """
    check, asked = config.writer.check, config.synthesis.drafts or config.scoring
    if check and asked:
        load(check)(config.reference, folder, watch, scores=bool(config.scoring))


def translators_of(config: RunConfig) -> list[str]:
    """Return the hashes of what is in the folders of translators, for a step's key."""
    pairs = [method for method in config.synthesis.augment if isinstance(method, Seq2SeqTranslation)]
    return [folder_digest(folder) for pair in pairs for folder in (pair.forward, pair.back)]


MODEL, WEIGHTS = "model", "weights"
"""In a step in which the reference learnt: what `make_trained` reads, and a Hugging Face folder to learn further with."""


def _training(config: RunConfig) -> Training:
    """Return how the reference is trained.

    Raises:
        ConfigError: its weights are not here.
    """
    spec = config.writer
    if not spec.training:
        able = " or ".join(each.written for each in REFERENCES.values() if each.training)
        raise ConfigError(f"the reference '{spec.name}' has no weights here that could be trained", expected=able)
    made: Training = load(spec.training)
    return made


def trainable(config: RunConfig, store: ModelStore) -> Trainable:
    """Return the weights of the reference that the configuration names.

    Raises:
        MissingError: they are not in the store.
        ConfigError: the reference is somewhere else.
    """
    return _training(config).weights(context_of(config, store))


def ready_trained(config: RunConfig, weights: Path, out: Path) -> None:
    """Turn trained weights of the reference, a Hugging Face folder, into what `make_trained` reads."""
    _training(config).ready(weights, out)


def make_trained(config: RunConfig, store: ModelStore, folder: Path, *, name: str) -> Generator:
    """Return the reference with trained weights, as `ready_trained` left them, under a name for provenance."""
    return _training(config).make(context_of(config, store), folder, name)


class ReferenceSource(NamedTuple):
    """Where the reference comes from: the store, or a step in which it learnt, with its hash."""

    store: ModelStore
    learnt: Path | None = None
    hash: str = ""

    def generator(self, config: RunConfig, folder: Path | None = None) -> Generator:
        """Return the reference; see `make_generator`.

        Raises:
            MissingError: see there.
        """
        if self.learnt is None:
            return make_generator(config, self.store, folder)
        return make_trained(config, self.store, self.learnt / MODEL, name=f"pretrained:{self.hash[:12]}")

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
