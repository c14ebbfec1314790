"""The report's section on mistakes: the held-out rows that the model gets wrong. Knows nothing of how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

SHOWN = 10
"""Mistakes in a report; the file has all rows."""

_OF_LINES = (".jsonl", ".ndjson", ".json", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRow:
    """A row of the training file, answered by a model that was not trained on it.

    Attributes:
        label: the row's label, as shown to people.
        answer: the model's answer, as shown to people.
        confidence: of the whole answer.
        unsure: whether the model abstains.
        score: the row's contribution to the main figure, in [0, 1].
        sheet_row: the row of the spreadsheet, or the line.
        own_id: the user's id of the row, or empty.
    """

    id: str
    text: str
    label: str
    answer: str
    confidence: float
    unsure: bool
    right: bool
    score: float
    file: str = ""
    sheet_row: int | None = None
    own_id: str = ""

    @property
    def where(self) -> str:
        """Where a person finds the row, such as `T-12, sheet row 83`; empty if unknown."""
        unit = "line" if self.file.lower().endswith(_OF_LINES) else "sheet row"
        return ", ".join([*filter(None, [self.own_id]), *([] if self.sheet_row is None else [f"{unit} {self.sheet_row}"])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistakes:
    """The mistakes on `n` held-out rows: their number, and the most confident of them.

    Confident mistakes tell most: the label is wrong, the class is badly described, or the model needs more such rows.
    """

    n: int
    wrong: int
    rows: tuple[HeldRow, ...]

    @classmethod
    def of(cls, rows: Sequence[HeldRow]) -> Self:
        """Take the first mistakes of ranked rows."""
        wrong = [row for row in rows if not row.right]
        return cls(n=len(rows), wrong=len(wrong), rows=tuple(wrong[:SHOWN]))


def ranked(rows: Sequence[HeldRow]) -> list[HeldRow]:
    """Return the rows with the most confident mistakes first and the most confident right answers last."""
    wrong = sorted((row for row in rows if not row.right), key=lambda row: -row.confidence)
    return wrong + sorted((row for row in rows if row.right), key=lambda row: row.confidence)
