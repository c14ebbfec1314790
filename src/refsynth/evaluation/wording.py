"""How a calibration is told, by what it is over: rows, decisions on a row and a label, or spans that were found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Over = Literal["rows", "labels", "spans"]


class Wording(NamedTuple):
    """How a calibration is told: of answers, of the decisions that its bins count, and of a bin's two values."""

    right: str
    is_right: str
    counted: str
    unit: str
    confidence: str
    outcome: str
    line: str


WORDING: Mapping[Over, Wording] = {
    "rows": Wording("right", "is right", "", "rows", "confidence, %", "accuracy, %", "confidence equals accuracy"),
    "labels": Wording(
        "with just the right labels",
        "has just the right labels",
        "decisions on a row and a label",
        "decisions",
        "probability of a label, %",
        "rows with the label, %",
        "the probability of a label is the share of rows that have it",
    ),
    "spans": Wording(
        "with just the right spans",
        "has just the right spans",
        "spans found",
        "spans",
        "confidence of a span, %",
        "spans that are right, %",
        "the confidence of spans is the share that is right",
    ),
}
