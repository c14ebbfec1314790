"""The words of the calibration section, by what it counts: rows, decisions on a row and a label, or predicted spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Over = Literal["rows", "labels", "spans"]


class Wording(NamedTuple):
    """The words for correct answers, for the decisions that bins count, and for the axes of the reliability plot."""

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
        "with exactly the right labels",
        "has exactly the right labels",
        "decisions on a row and a label",
        "decisions",
        "probability of a label, %",
        "rows with the label, %",
        "the probability of a label is the share of rows that have it",
    ),
    "spans": Wording(
        "with exactly the right spans",
        "has exactly the right spans",
        "predicted spans",
        "spans",
        "confidence of a span, %",
        "spans that are right, %",
        "the confidence of spans is the share that is right",
    ),
}
