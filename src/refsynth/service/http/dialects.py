"""Request and reply formats: our own, and that of text-embeddings-inference (TEI)."""

from __future__ import annotations

from typing import Any

from refsynth.core.types import DIGITS, Prediction
from refsynth.service.http.batching import RowError
from refsynth.service.http.engine import Answer
from refsynth.service.http.schema import PredictRequest, TeiRequest


def tei_rows(body: TeiRequest) -> list[str | list[str]]:
    """Return the rows of a TEI request. A list of one text becomes that text."""
    if isinstance(body.inputs, str):
        return [body.inputs]
    rows = [row for row in body.inputs if isinstance(row, list)] or [[text for text in body.inputs if isinstance(text, str)]]
    return [row[0] if len(row) == 1 else row for row in rows]


def is_batch(body: TeiRequest) -> bool:
    """Tell whether a TEI request expects a list of answers."""
    return isinstance(body.inputs, list) and bool(body.inputs) and isinstance(body.inputs[0], list)


def _ranked(prediction: Prediction) -> list[tuple[str, float]]:
    pairs = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])
    return [(label, round(value, DIGITS)) for label, value in pairs]


def tei_scores(prediction: Prediction) -> list[dict[str, Any]]:
    """Return an answer in TEI's format."""
    return [{"score": value, "label": label} for label, value in _ranked(prediction)]


def prediction_json(answer: Answer | RowError, body: PredictRequest) -> dict[str, Any]:
    """Return an answer, or the reason why there is none, in our own format."""
    if isinstance(answer, RowError):
        return {"error": {"code": answer.code, "message": answer.found}}
    prediction = answer.prediction
    return {
        **prediction.said,
        "probability": round(prediction.probability, DIGITS),
        "probabilities": dict(_ranked(prediction)[: body.top_k]) if body.probabilities else None,
        "abstain": prediction.abstain,
        "none": prediction.none,
        "tier": answer.tier,
        "degraded": prediction.degraded,
        "truncated": prediction.truncated,
        "version": answer.version,
    }
