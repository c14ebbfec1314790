"""The sections of the configuration about drafts: which language model writes them, how, and which are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator

from refsynth.core.scorers import ScorerName
from refsynth.core.sections import Section

KEY_PREFIX = "REFSYNTH_"
KEY_NAMES = (
    "ANTHROPIC_API_KEY",
    "DASHSCOPE_API_KEY",
    "DEEPSEEK_API_KEY",
    "FIREWORKS_API_KEY",
    "GEMINI_API_KEY",
    "GROQ_API_KEY",
    "MISTRAL_API_KEY",
    "OPENAI_API_KEY",
    "OPENROUTER_API_KEY",
    "TOGETHER_API_KEY",
    "VLLM_API_KEY",
)
"""Variables that hold keys of language models. A task.yaml may come from a stranger: it must not send any other secret away."""

_NO_KEYS = ("REFSYNTH_DB_PASSWORD", "REFSYNTH_KEYS", "REFSYNTH_RECORD")
"""Variables with the prefix that hold other secrets."""


class EndpointReference(Section):
    """An OpenAI-compatible server."""

    endpoint: str
    """Base address, e.g. `http://127.0.0.1:8080/v1`."""
    model: str
    """The model's name there."""
    api: Literal["auto", "chat", "completions"] = "auto"
    """Whether the model takes chat messages or continues prompts. `auto` asks the server before the run, and prefers chat."""
    key_env: str = "REFSYNTH_API_KEY"
    """Environment variable with the key, if the server needs one: `REFSYNTH_...`, or a usual name such as `OPENAI_API_KEY`."""
    concurrency: int = Field(default=4, ge=1, le=256)
    """Concurrent requests."""
    timeout: float = Field(default=60.0, gt=0)
    """Seconds to wait for one answer."""
    retries: int = Field(default=4, ge=0, le=20)
    """Further tries after a timeout, a dropped connection, 429 or 5xx."""
    max_requests: int | None = Field(default=None, ge=1)
    """The most requests that a run may send; at the limit it stops with what it has."""

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, address: str) -> str:
        """Refuse an address with a secret, since it would be written into the run folder. No message repeats the address."""
        try:
            place = urlsplit(address)
            valid = place.scheme in ("http", "https") and place.hostname and (place.port is None or place.port > 0)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError("not an http address; write one such as http://127.0.0.1:8080/v1")
        if "@" in place.netloc or place.query or place.fragment:
            raise ValueError(
                "the address holds a password or a key; write the address alone, and put the key into an environment "
                "variable: REFSYNTH_API_KEY, or one that key_env names"
            )
        return address

    @field_validator("key_env")
    @classmethod
    def _check_key_env(cls, name: str) -> str:
        if name in KEY_NAMES or (name.startswith(KEY_PREFIX) and name not in _NO_KEYS):
            return name
        raise ValueError(
            f"'{name[:60]}' is not a variable for keys of language models; put the key into one that begins with {KEY_PREFIX}, "
            f"or into one of {', '.join(KEY_NAMES)}"
        )


class FolderReference(Section):
    """A causal language model in a local Hugging Face folder."""

    folder: Path
    """The folder, with config.json, weights and tokenizer."""


Way = Literal["examples", "styles", "contrast", "paraphrase", "topics"]


class ApertiumTranslation(Section):
    """Back-translation by Apertium, if it is installed."""

    translate: Literal["apertium"]
    """The engine."""
    pivot: str = Field(pattern="^[a-z]{2,3}$")
    """ISO 639 code of the language to translate into and back from; both directions must be installed."""


class Seq2SeqTranslation(Section):
    """Back-translation by two translation models in CTranslate2 folders."""

    translate: Literal["ctranslate2"]
    """The engine."""
    forward: Path
    """Folder of the model out of the texts' language, as ct2-transformers-converter writes it, with its tokenizer."""
    back: Path
    """Folder of the model into the texts' language; may be the same."""
    forward_prefix: str = ""
    """Words before each text that tell the model the direction, such as `translate English to German: ` for a T5."""
    back_prefix: str = ""
    """The same for the way back."""


AugmenterName = Literal["noise", "synonyms"]


def _kind_of(method: Any) -> Any:
    """Return the tag of a way to augment, so that pydantic reports a wrong value for one branch of the union, not for all."""
    if isinstance(method, str):
        return "named"
    return method.get("translate") if isinstance(method, Mapping) else getattr(method, "translate", None)


Augmentation = Annotated[
    Annotated[AugmenterName, Tag("named")]
    | Annotated[ApertiumTranslation, Tag("apertium")]
    | Annotated[Seq2SeqTranslation, Tag("ctranslate2")],
    Discriminator(
        _kind_of,
        custom_error_type="augmentation",
        custom_error_message="expected noise, synonyms, {translate: apertium, pivot: ...} or {translate: ctranslate2, ...}",
    ),
]


class SynthesisConfig(Section):
    """How drafts are written."""

    drafts: int = Field(default=600, ge=0, le=1_000_000)
    """Drafts to ask for over all labels; 0 turns synthesis off."""
    shots: int = Field(default=4, ge=0, le=32)
    """Seed examples of the class that one prompt shows."""
    per_prompt: int = Field(default=16, ge=1, le=256)
    """Drafts sampled from one prompt. Its prefix is computed once for all of them."""
    rounds: int = Field(default=1, ge=1, le=20)
    """Rounds of `drafts` drafts each. Later rounds write for the labels and rows that the model so far gets wrong."""
    minutes: float | None = Field(default=None, gt=0)
    """No further round begins after this many minutes of writing and scoring drafts. Default: rounds go on while they help."""
    ways: tuple[Way, ...] = Field(default=("examples",), min_length=1)
    """How prompts ask, in turn: by examples, for a length or style, against another label, for a paraphrase, about a topic."""
    temperature: float = Field(default=1.0, gt=0, le=5)
    """Sampling temperature."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling: the share of probability that tokens are sampled from."""
    max_tokens: int = Field(default=64, ge=4, le=2048)
    """The longest draft, in tokens of the reference."""
    augment: tuple[Augmentation, ...] = ()
    """Ways to change copies of real rows: `noise`, `synonyms` (English, WordNet), `{translate: apertium, pivot: es}`."""
    copies: int = Field(default=4, ge=1, le=64)
    """The most augmented copies of one real row, over all ways. They join the drafts."""


class FilterConfig(Section):
    """Which drafts are trained on."""

    agreement: float = Field(default=0.5, ge=0, lt=1)
    """Least agreement of a model of the real rows with a draft's label. Above 0.5 the model predicts the same label."""
    scores: dict[ScorerName, Annotated[float, Field(allow_inf_nan=False)]] = Field(default_factory=dict)
    """Further scorers, each with the least score that a draft needs to be kept; the highest if lower scores are better."""
    influence: float = Field(default=0.0, ge=0, lt=1)
    """Share of each label's drafts to leave out: those that raise the loss on held-out real rows most, or lower it least."""
    targets: Literal["label", "judge", "ensemble"] = "label"
    """What a draft teaches: its label, the prediction of a model of the real rows, or the mean of that and the reference's."""


PolicyName = Literal["rloo", "raft", "bandit"]


class ReinforceConfig(Section):
    """How the reference learns, before it writes, from the effect of its drafts on the loss on held-out rows."""

    iterations: int = Field(default=0, ge=0, le=1000)
    """Turns of writing, scoring and learning, for each half of the folds; 0 turns reinforcement off."""
    policy: PolicyName = "rloo"
    """What learns: an adapter by policy gradient (`rloo`) or on the best drafts (`raft`), or the choice of prompts (`bandit`)."""
    prompts: int = Field(default=8, ge=1, le=1024)
    """Prompts per turn."""
    group_size: int = Field(default=16, ge=2, le=64)
    """Drafts per prompt and turn; each is compared with the others of its prompt."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the adapter."""
    batch_size: int = Field(default=16, ge=2)
    """The fewest drafts for one gradient step of the adapter: a turn has as many steps as its drafts allow."""
    kl: float = Field(default=0.15, ge=0)
    """Weight of the divergence between adapter and reference, in nats per token; it keeps the adapter near the reference."""
    minutes: float | None = Field(default=None, gt=0)
    """No further turn begins after this many minutes, for each half of the folds. Default: all turns run."""


BRANCHES: Mapping[str, type[Section]] = {
    "EndpointReference": EndpointReference,
    "FolderReference": FolderReference,
    "apertium": ApertiumTranslation,
    "ctranslate2": Seq2SeqTranslation,
}
"""The names of a union's branches in the location of a pydantic error."""
