"""The values that flow between stages: frozen dataclasses without behavior beyond (de)serialization.

Shapes are written with N texts, K labels, D dimensions, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
Array = NDArray[Any]
"""Numbers; or, if rows differ in length, an object array of arrays or of strings."""

DIGITS = 6
"""Decimal places of probabilities in results."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a draft comes from: enough to make it again, or to remove all that depends on a row.

    Attributes:
        prompt: the text of the prompt.
        shown: ids of the seed examples that the prompt showed.
        seed: the sampling seed of the batch.
        reference: the identity of the generator.
        rewarded_by: ids of the seed examples whose loss the generator was trained to lower.
        reworded: whether the draft is a paraphrase of the one row that was shown; it may then resemble that row.
    """

    prompt: str
    shown: tuple[str, ...]
    seed: int
    reference: str
    rewarded_by: tuple[str, ...] = ()
    reworded: bool = False

    @property
    def seen(self) -> frozenset[str]:
        """All seed examples that the draft depends on: they can neither score it nor measure its effect."""
        return frozenset(self.shown) | frozenset(self.rewarded_by)


@dataclass(frozen=True, slots=True)
class Example:
    """A text with its label.

    Attributes:
        id: stable: `row-12` for row 12 of the user's file, `draft-…` for a generated row.
        text: the text.
        label: the label.
        provenance: where a draft comes from; None for a real row.
        targets: probabilities of the task's labels, in their order, if a teacher gave them instead of `label` alone.
        weight: what the example counts in training, compared with others of its kind.
    """

    id: str
    text: str
    label: str
    provenance: Provenance | None = None
    targets: tuple[float, ...] | None = None
    weight: float = 1.0

    def independent_of(self, held_out: frozenset[str]) -> bool:
        """Return whether it depends on none of the rows with these ids: no prompt showed them, no reward came from them."""
        return self.provenance is None or held_out.isdisjoint(self.provenance.seen)

    def to_json(self) -> dict[str, Any]:
        """Return the example as JSON-ready values."""
        record = asdict(self)
        for name in ("rewarded_by", "reworded"):
            if self.provenance is not None and not record["provenance"][name]:
                del record["provenance"][name]
        if self.weight == 1:
            del record["weight"]
        return {name: value for name, value in record.items() if value is not None}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Example:
        """Build an example from what `to_json` returned."""
        origin, targets = record.get("provenance"), record.get("targets")
        if origin is not None:
            rewarded_by = tuple(origin.get("rewarded_by", ()))
            origin = Provenance(**{**origin, "shown": tuple(origin["shown"]), "rewarded_by": rewarded_by})
        targets = None if targets is None else tuple(targets)
        return cls(record["id"], record["text"], record["label"], origin, targets, record.get("weight", 1.0))


COUNT = "{n}"
"""A placeholder in a message for the number of texts that it asks for."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request to the reference.

    Attributes:
        text: the complete prompt.
        label: the label that it asks for.
        shown: ids of the seed examples that it shows.
        rewords: whether it asks for a paraphrase of the one row that it shows.
        chat: the same request as a message to a chat model, with `COUNT` for the number of texts; empty if `text` is the message.
    """

    text: str
    label: str
    shown: tuple[str, ...] = ()
    rewords: bool = False
    chat: str = ""

    def message(self, n: int) -> str:
        """Return the message that asks for `n` texts."""
        return self.chat.replace(COUNT, str(n), 1)  # once: what follows is the user's text


class Completion(NamedTuple):
    """What the reference wrote for a prompt.

    `finished` is false if the token limit cut it off; `refused` is true if the model said that it will not write.
    """

    text: str
    finished: bool
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A generated row with its scores and, if it was dropped, the reason.

    `likelihoods` holds the log-likelihood ratio per token, in nats, under each label that the reference was asked about.
    """

    example: Example
    scores: Mapping[str, float] = field(default_factory=dict)
    dropped: str | None = None
    likelihoods: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the draft as JSON-ready values."""
        likelihoods = {"likelihoods": dict(self.likelihoods)} if self.likelihoods else {}
        return {**self.example.to_json(), "scores": dict(self.scores), "dropped": self.dropped, **likelihoods}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Draft:
        """Build a draft from what `to_json` returned."""
        return cls(Example.from_json(record), dict(record["scores"]), record["dropped"], dict(record.get("likelihoods", {})))


def kept(drafts: Iterable[Draft]) -> list[Example]:
    """Return the examples of the drafts that were not dropped."""
    return [draft.example for draft in drafts if draft.dropped is None]


class Entity(NamedTuple):
    """A part of a text with a label: characters from `start` up to but not including `end`, and the probability of just this."""

    start: int
    end: int
    label: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer of a model for one text.

    Attributes:
        label: the label; for multi-label the set of labels as `core.labelset` writes it, for token classification the spans as
            `core.spans` writes them.
        probabilities: calibrated, by label; for token classification the probability that the label occurs in the text.
        abstain: whether the model is unsure.
        tier: the part that answered: `int8` or its slower `safe` form, `static`, or `exact` (TF-IDF).
        labels: all labels of the text, for multi-label; otherwise None.
        degraded: whether a first tier answered what it would pass on, since the next tier was not asked.
        truncated: whether a part of the text was not read.
        entities: the entities of the text, for token classification; otherwise None.
        certainty: the probability that just these entities are there, for token classification; otherwise None.
        none: whether the text is unlike the rows of all labels, so that `label` is only the nearest. False if the bundle cannot
            tell.
    """

    label: str
    probabilities: Mapping[str, float]
    abstain: bool = False
    tier: str = ""
    labels: tuple[str, ...] | None = None
    degraded: bool = False
    truncated: bool = False
    entities: tuple[Entity, ...] | None = None
    certainty: float | None = None
    none: bool = False

    @property
    def said(self) -> dict[str, Any]:
        """The answer as JSON-ready values: the label, the labels, or the entities."""
        if self.entities is not None:
            return {"entities": [{**one._asdict(), "confidence": round(one.confidence, DIGITS)} for one in self.entities]}
        return {"label": self.label} if self.labels is None else {"labels": list(self.labels)}

    @property
    def likeliest(self) -> str:
        """The label with the highest probability, whether or not it is the answer."""
        if self.labels is None and self.entities is None:
            return self.label
        return max(self.probabilities, key=lambda label: self.probabilities[label])

    @property
    def probability(self) -> float:
        """The probability of `label`; for a set, that it is exactly right, if its labels were independent."""
        if self.certainty is not None:
            return self.certainty
        if self.labels is None:
            return self.probabilities[self.label]
        return prod(value if label in self.labels else 1 - value for label, value in self.probabilities.items())


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value with its 95% interval and the number of rows behind it."""

    name: str
    value: float
    low: float
    high: float
    n: int

    def percent(self) -> str:
        """Return e.g. `76.8 [73.1-80.2]`, in percent."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}-{100 * self.high:.1f}]"
