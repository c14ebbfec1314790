"""Request and reply bodies as pydantic models with examples. The OpenAPI description is built from these."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from refsynth.core.kinds import LabelsOf

REQUEST_ID = r"^[A-Za-z0-9._:-]{1,64}$"

TRUNCATE = "Whether to cut a text that is longer than the model reads; if false, such a text is refused with 413."


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _example(**example: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": example})


class PredictRequest(_In):
    """Texts to label."""

    model_config = _example(texts=["where is my parcel?"], top_k=3)
    texts: str | list[str | list[str]] = Field(
        description="One text, or a list of texts; for text pairs, [first, second] each. A server takes only so many at once: "
        "see the description of the API."
    )
    top_k: int | None = Field(default=None, ge=1, le=1_000_000, description="How many labels to show; all if left out.")
    probabilities: bool = Field(default=True, description="Whether to show probabilities by label.")
    truncate: bool = Field(default=True, description=TRUNCATE)


class _Answer(BaseModel):
    probability: float = Field(ge=0, le=1)
    probabilities: dict[str, float] | None = Field(default=None, description="By label, highest first.")
    abstain: bool = Field(description="The model abstains: its probability is below the decision threshold.")
    none: bool = Field(
        default=False, description="The text is unlike the training rows of every label: the label is only the nearest one."
    )
    tier: str = Field(description="The tier that answered: int8, its slower safe form, static, or exact (TF-IDF).")
    degraded: bool = Field(
        default=False, description="The first tier of a cascade was unsure, but answered because the second was unavailable."
    )
    truncated: bool = Field(default=False, description="Part of the text was not read: it is longer than the model reads.")
    version: str = Field(description="The version of the bundle that answered.")


class PredictionOut(_Answer):
    """The answer for one text."""

    label: str


class LabelsOut(_Answer):
    """The answer for one text of a multi-label task.

    `probability` is that of exactly these labels, if labels were independent.
    """

    labels: list[str]


class EntityOut(BaseModel):
    """A part of the text with a label."""

    start: int = Field(description="Offset of its first character.")
    end: int = Field(description="Offset after its last character.")
    label: str
    confidence: float = Field(ge=0, le=1, description="The probability that exactly this part has this label.")


class EntitiesOut(_Answer):
    """The answer for one text of a token classification task. `probability` is that of exactly these entities."""

    entities: list[EntityOut]


class RowFailure(BaseModel):
    """No answer for this text: it is empty, or the model failed on it. The other texts are not affected."""

    error: dict[str, str]


class PredictReply(BaseModel):
    """One prediction per text, in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "request_id": "5f0c2f9be4ec4ce9",
                "predictions": [
                    {
                        "label": "delivery",
                        "probability": 0.91,
                        "probabilities": {"delivery": 0.91, "cancellation": 0.05, "billing": 0.04},
                        "abstain": False,
                        "none": False,
                        "tier": "int8",
                        "degraded": False,
                        "truncated": False,
                        "version": "0b44a9d7b51c",
                    }
                ],
            }
        }
    )
    request_id: str
    predictions: list[PredictionOut | LabelsOut | EntitiesOut | RowFailure]


class TeiRequest(_In):
    """A request in the format of Hugging Face's text-embeddings-inference."""

    model_config = _example(inputs="where is my parcel?")
    inputs: str | list[str] | list[list[str]] = Field(
        description="One text, or a batch: a list of lists with one text each, or two each for text pairs."
    )
    truncate: bool = Field(default=True, description=TRUNCATE)
    raw_scores: bool = Field(default=False, description="Must be false: scores are calibrated probabilities.")


class TeiScore(BaseModel):
    """A label and its probability."""

    score: float
    label: str


class ExplainRequest(_In):
    """A text, and the label to explain."""

    model_config = _example(text="where is my parcel?", top=10)
    text: str | list[str] = Field(description="A text; for text pairs, [first, second].")
    label: str | None = Field(default=None, description="The label to explain; the likeliest one if left out.")
    top: int = Field(default=20, ge=1, le=1000, description="How many parts to show, strongest first.")
    truncate: bool = Field(default=True, description=TRUNCATE)


class ExplainedPart(BaseModel):
    """A part of the text and how much it speaks for the label. Offsets count characters; terms of `contributions` have none."""

    text: str
    value: float
    start: int | None = None
    end: int | None = None


class ExplainReply(BaseModel):
    """An explanation of a label.

    `contributions` (TF-IDF, static) is exact: `base`, all values and `rest` sum to log p(label) minus the mean of log p over
    all labels; for a multi-label task they sum to log p(label) - log(1 - p(label)).
    `occlusion` (encoders) is measured: a value is how much p(label) falls without that part.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "request_id": "5f0c2f9be4ec4ce9",
                "label": "delivery",
                "probability": 0.91,
                "method": "contributions",
                "base": -0.1,
                "parts": [{"text": "parcel", "value": 1.3, "start": None, "end": None}],
                "rest": 0.2,
                "version": "0b44a9d7b51c",
            }
        }
    )
    request_id: str
    label: str
    probability: float
    method: str
    base: float
    parts: list[ExplainedPart]
    rest: float = Field(description="The sum of the values that are not shown.")
    version: str


class FeedbackRequest(_In):
    """The correct answer for a text of an earlier request: its label, its labels, or the text with every entity marked."""

    model_config = _example(request_id="5f0c2f9be4ec4ce9", row=0, label="billing")
    request_id: str = Field(pattern=REQUEST_ID)
    row: int = Field(default=0, ge=0, le=1_000_000, description="Which text of that request, from 0.")
    label: str | None = Field(default=None, description="The correct label; for a bundle that gives each text one label.")
    labels: list[str] | None = Field(default=None, description="All correct labels, possibly none; for a multi-label bundle.")
    marked: str | None = Field(
        default=None,
        description="The text with every entity marked, as in [Ann Lee](person) called; for a token classification bundle.",
    )


class FeedbackReply(BaseModel):
    """The feedback is on disk."""

    request_id: str
    row: int
    outcome: str = Field(description="stored; repeated if it was already there; changed if it replaced another label.")


class StoredFeedbackOut(BaseModel):
    """One stored feedback. `text` is redacted, and null unless the server keeps texts; several labels are joined by ` + `."""

    request_id: str
    row: int
    label: str
    predicted: str | None = Field(description="The predicted label, while the record still has it.")
    text: str | None
    time: datetime


class RecentFeedbackReply(BaseModel):
    """The latest feedback, newest first."""

    data: list[StoredFeedbackOut]


class ModelOut(BaseModel):
    """A bundle in use."""

    id: str
    object: str = "model"
    kinds: list[str]
    task: str
    labels_of: LabelsOf = Field(description="What labels are of: one of a text, several of a text, or of words in it.")
    tier: str
    labels: list[str]
    language: str
    threshold: float
    metrics: dict[str, float]


class ModelsReply(BaseModel):
    """The bundles in use."""

    object: str = "list"
    data: list[ModelOut]


class LiveReply(BaseModel):
    """The process answers."""

    status: str = "live"


class ReadyReply(BaseModel):
    """Whether to send requests here."""

    ready: bool
    problems: list[str]
    degraded: bool = Field(default=False, description="It answers, but part of it does not work: see `lacks`.")
    lacks: list[str] = Field(default_factory=list, description="What does not work: a cascade's second tier, or the record.")
    version: str
