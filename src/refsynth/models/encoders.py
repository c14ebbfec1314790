"""The embedded encoders by name: which languages each reads, and how it wants to be used. What all else derives from.

Order is preference: a language takes the first that reads it. Where an encoder's files come from is in `catalog`.
"""

from __future__ import annotations

from dataclasses import dataclass

from refsynth.core.registry import Registry


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder.

    Attributes:
        name: of its model in the catalog.
        doc: what it is, for the documents.
        max_tokens: of a text that it can read, at most.
        prefix: what precedes each text.
        languages: that it reads, as ISO 639-1 codes; empty for any.
    """

    name: str
    doc: str
    max_tokens: int
    prefix: str = ""
    languages: tuple[str, ...] = ()

    @property
    def multilingual(self) -> bool:
        """Whether it reads any language: most of its vocabulary is then of no use to one task, and is pruned."""
        return not self.languages

    def reads(self, language: str) -> bool:
        """Tell whether it reads a language."""
        return self.multilingual or language in self.languages


ENCODERS: Registry[EncoderSpec] = Registry(
    None,
    EncoderSpec,
    (
        EncoderSpec("minilm", "all-MiniLM-L6-v2", max_tokens=256, languages=("en",)),
        EncoderSpec("e5", "multilingual-e5-small", max_tokens=512, prefix="query: "),
    ),
)


def encoder_for(language: str) -> EncoderSpec:
    """Return the encoder for an ISO 639-1 language, or for one that could not be told."""
    return next(spec for spec in ENCODERS.values() if spec.reads(language))
