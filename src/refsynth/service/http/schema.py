"""What goes in and out, as pydantic models with examples: the OpenAPI description is made of these."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from refsynth.core.kinds import LabelsOf

REQUEST_ID = r"^[A-Za-z0-9._:-]{1,64}$"

TRUNCATE = "Whether a text that is longer than what the model reads is cut; if not, it is refused with 413."


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _example(**example: Any) -> ConfigDict:
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": example})


class PredictRequest(_In):
    """Texts to label."""

    model_config = _example(texts=["where is my parcel?"], top_k=3)
    texts: str | list[str | list[str]] = Field(description="One text, or a list of texts; of a bundle for pairs [first, second].")
    top_k: int | None = Field(default=None, ge=1, le=1_000_000, description="How many labels to show; all of them if left out.")
    probabilities: bool = Field(default=True, description="Whether to show probabilities by label.")
    truncate: bool = Field(default=True, description=TRUNCATE)


class _Answer(BaseModel):
    probability: float = Field(ge=0, le=1)
    probabilities: dict[str, float] | None = Field(default=None, description="By label, highest first.")
    abstain: bool = Field(description="The model would rather not answer: its probability is below the calibrated threshold.")
    none: bool = Field(
        default=False, description="The text is unlike the training rows of all labels: its label is only the nearest."
    )
    tier: str = Field(description="What answered: int8, its slower safe form, static, or exact (TF-IDF).")
    degraded: bool = Field(
        default=False, description="The first tier of a cascade was unsure, and answered since the second could not be asked."
    )
    truncated: bool = Field(default=False, description="A part of the text was not read: it is longer than the model reads.")
    version: str = Field(description="Which bundle answered.")


class PredictionOut(_Answer):
    """The answer for one text."""

    label: str


class LabelsOut(_Answer):
    """The answer for one text that may have any number of labels. `probability` is that of just these, were they independent."""

    labels: list[str]


class EntityOut(BaseModel):
    """A part of the text with a label."""

    start: int = Field(description="Where it begins, in characters.")
    end: int = Field(description="Where it ends, in characters.")
    label: str
    confidence: float = Field(ge=0, le=1, description="How probable it is that just this part has this label.")


class EntitiesOut(_Answer):
    """What was found in one text, of a bundle that labels words. `probability` is that just these are there."""

    entities: list[EntityOut]


class RowFailure(BaseModel):
    """There is no answer for this text: it is empty, or the model failed on it. The others are not affected."""

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
    """A request in the form of Hugging Face's text-embeddings-inference."""

    model_config = _example(inputs="where is my parcel?")
    inputs: str | list[str] | list[list[str]] = Field(
        description="One text, or a batch as a list of lists of one text each; of a bundle for pairs two texts each."
    )
    truncate: bool = Field(default=True, description=TRUNCATE)
    raw_scores: bool = Field(default=False, description="Only false: scores are calibrated probabilities.")


class TeiScore(BaseModel):
    """A label with its probability."""

    score: float
    label: str


class ExplainRequest(_In):
    """A text whose label is to be explained."""

    model_config = _example(text="where is my parcel?", top=10)
    text: str | list[str] = Field(description="A text; of a bundle for pairs [first, second].")
    label: str | None = Field(default=None, description="The label to explain; the likeliest if left out.")
    top: int = Field(default=20, ge=1, le=1000, description="How many parts to show, strongest first.")
    truncate: bool = Field(default=True, description=TRUNCATE)


class ExplainedPart(BaseModel):
    """A part of the text and what it says for the label. Offsets count characters; terms of `contributions` have none."""

    text: str
    value: float
    start: int | None = None
    end: int | None = None


class ExplainReply(BaseModel):
    """Why a label.

    `contributions` (TF-IDF, static) is exact: `base`, all values and `rest` sum to log p(label) less the mean of log p over
    all labels.
    Where a text may have any number of labels they sum to log p(label) - log(1 - p(label)).
    `occlusion` (encoders) is measured: a value is how much p(label) falls when that part is left out.
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
    """The correct label of a row of an earlier request, its labels where it may have any number, or all that is in it, marked."""

    model_config = _example(request_id="5f0c2f9be4ec4ce9", row=0, label="billing")
    request_id: str = Field(pattern=REQUEST_ID)
    row: int = Field(default=0, ge=0, le=1_000_000, description="Which text of that request, from 0.")
    label: str | None = Field(default=None, description="Of a bundle that gives each text one label.")
    labels: list[str] | None = Field(default=None, description="Of a bundle that gives any number of labels; may be empty.")
    marked: str | None = Field(
        default=None,
        description="Of a bundle that labels words: the text with all that is in it marked, [Ann Lee](person) called.",
    )


class FeedbackReply(BaseModel):
    """The feedback is on disk."""

    request_id: str
    row: int
    outcome: str = Field(description="stored; repeated, if it was there already; changed, if there was another label.")


class GivenOut(BaseModel):
    """A stored feedback. `text` is there where the server keeps texts, redacted; several labels have ` + ` between them."""

    request_id: str
    row: int
    label: str
    predicted: str | None = Field(description="What the model had said, while the record still has it.")
    text: str | None
    time: datetime


class GivenReply(BaseModel):
    """The last feedback, the newest first."""

    data: list[GivenOut]


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
    """What is served."""

    object: str = "list"
    data: list[ModelOut]


class LiveReply(BaseModel):
    """The process answers."""

    status: str = "live"


class ReadyReply(BaseModel):
    """Whether requests should be sent here."""

    ready: bool
    problems: list[str]
    degraded: bool = Field(default=False, description="It answers, but not all of it works: see `lacks`.")
    lacks: list[str] = Field(default_factory=list, description="The second tier of a cascade, or the record, where it fails.")
    version: str
