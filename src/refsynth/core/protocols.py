"""Protocols with one verb each. A component is anything with the method; nothing needs to inherit from these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from refsynth.core.types import Completion, Example, FloatArray, Prompt


@runtime_checkable
class Generator(Protocol):
    """The reference with its decoding settings: writes texts for prompts, and scores how likely a text is under a prompt."""

    @property
    def name(self) -> str:
        """The identity for provenance: kind, and content hash or model name."""

    def generate(self, prompts: Sequence[Prompt], *, n: int, seed: int) -> list[list[Completion]]:
        """Return `n` completions for each prompt, the same for the same arguments."""

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> FloatArray:
        """Return mean log P(token | prompt, tokens before) in nats of `texts[i]` under `prompts[i]`: [N]."""


@runtime_checkable
class Chatting(Protocol):
    """A generator that may take chat messages."""

    @property
    def chats(self) -> bool:
        """Whether it reads the chat form of a prompt."""


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors."""

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return one unit-length row per text: [N, D]."""


@runtime_checkable
class Scorer(Protocol):
    """Scores drafts."""

    def score(self, drafts: Sequence[Example]) -> FloatArray:
        """Return one score per draft, higher is better: [N]."""


@runtime_checkable
class Predictor(Protocol):
    """A fitted model. Its label order is fixed."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The K labels, in the order of the columns of `logits`."""

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return unnormalized log-probabilities: [N, K]."""


@runtime_checkable
class Truncating(Protocol):
    """A predictor that reads long texts in part."""

    def truncates(self, text: str) -> bool:
        """Return whether a clean text is longer than what is read of it."""
        ...


@runtime_checkable
class Additive(Protocol):
    """A predictor whose logits are a sum over the parts of a text."""

    @property
    def bias(self) -> FloatArray:
        """The logits of a text without parts [K]."""

    def parts(self, text: str) -> tuple[list[str], FloatArray]:
        """Return the J parts of a text and what each adds to the logits [J, K]; their sum plus the bias is the logits."""


@runtime_checkable
class Learner(Protocol):
    """Fits a predictor to examples. `dev` may be empty; otherwise it decides when to stop."""

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> Predictor:
        """Return the fitted predictor; the same for the same arguments."""


@runtime_checkable
class Augmenter(Protocol):
    """Changes texts without changing their label."""

    @property
    def name(self) -> str:
        """The identity for provenance: kind, and version or content hash."""

    def augment(self, texts: Sequence[str], *, n: int, seed: int) -> list[list[str]]:
        """Return at most `n` changed copies of each text, all different; the same for the same arguments."""
