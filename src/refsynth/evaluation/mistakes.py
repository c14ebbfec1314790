"""The part of a report on single rows: which held-out rows the model gets wrong. Knows nothing of how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

SHOWN = 10
"""Wrong rows that a report shows; the file has all rows."""


_OF_LINES = (".jsonl", ".ndjson", ".json", ".txt")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRow:
    """A row of the training file as a model answered it that had not learned from it.

    `label` is what the row has and `answer` what the model said, as a person reads them. `confidence` is that of the whole
    answer, `score` the row's part in the figure of merit, in [0, 1]. `file`, `sheet_row` and `own_id` say where a person finds
    it: empty where nobody knows.
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
        """Where a person finds it, e.g. `T-12, sheet row 83`; empty where nobody knows."""
        unit = "line" if self.file.lower().endswith(_OF_LINES) else "sheet row"
        return ", ".join([*filter(None, [self.own_id]), *([] if self.sheet_row is None else [f"{unit} {self.sheet_row}"])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistakes:
    """The wrong ones of `n` held-out rows: how many, and the first of them. The most confident mistake comes first.

    Such a row teaches most: its label is wrong, its class is described badly, or the model needs more rows like it.
    """

    n: int
    wrong: int
    rows: tuple[HeldRow, ...]

    @classmethod
    def of(cls, rows: Sequence[HeldRow]) -> Self:
        """Take the first wrong ones of ranked rows."""
        wrong = [row for row in rows if not row.right]
        return cls(n=len(rows), wrong=len(wrong), rows=tuple(wrong[:SHOWN]))


def ranked(rows: Sequence[HeldRow]) -> list[HeldRow]:
    """Return the rows with the most confident mistakes first and the most confident right ones last."""
    wrong = sorted((row for row in rows if not row.right), key=lambda row: -row.confidence)
    return wrong + sorted((row for row in rows if row.right), key=lambda row: row.confidence)
