"""The embedded encoders by name, with their languages and options, in the order of preference.

A language uses the first encoder that supports it. The `catalog` has the sources of their files.
"""

from __future__ import annotations

from dataclasses import dataclass

from refsynth.core.registry import Registry


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """An encoder.

    Attributes:
        name: the name of its model in the catalog.
        doc: its title in the documents.
        max_tokens: the most tokens of a text.
        prefix: the prefix of each text.
        languages: ISO 639-1 codes of its languages; empty for all.
    """

    name: str
    doc: str
    max_tokens: int
    prefix: str = ""
    languages: tuple[str, ...] = ()

    @property
    def multilingual(self) -> bool:
        """Whether it supports all languages. One task then uses little of its vocabulary, which is pruned."""
        return not self.languages

    def reads(self, language: str) -> bool:
        """Return whether it supports a language."""
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
    """Return the encoder for a language by its ISO 639-1 code, or for an unknown language."""
    return next(spec for spec in ENCODERS.values() if spec.reads(language))
