"""The account of a data file: which rows were left out and why, and which labels are thin. Holds no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from refsynth.data.write import PLAIN, write_table

Reason = Literal[
    "empty text", "half a pair", "no label", "no weight", "duplicate", "conflict", "unknown label", "malformed",
    "not accepted", "annotators differ", "only suggested",
]  # fmt: skip
"""Why a row is left out. The last three are said by the tool that it was labelled with: people left it out, did not agree, or
have not looked yet at what a model suggested."""

_SHOWN = 12  # labels in a note


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was left out, with the reason and what exactly was found."""

    row: int
    reason: Reason
    detail: str


def describe_skipped(skipped: Sequence[SkippedRow]) -> tuple[str, ...]:
    """Return a sentence for each reason that rows were left out for, with the rows' numbers."""
    sentences = []
    for reason, count in Counter(row.reason for row in skipped).items():
        rows = [str(row.row) for row in skipped if row.reason == reason]
        shown = ", ".join(rows[:5]) + (f" and {count - 5} more" if count > 5 else "")
        sentences.append(f"{count} {'rows' if count > 1 else 'row'} dropped: {reason} ({'rows' if count > 1 else 'row'} {shown})")
    return tuple(sentences)


def describe_thin(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return a sentence each for the labels without rows and those with one."""
    notes = []
    for number, what in ((0, "no rows"), (1, "one row only")):
        names = [label for label, count in counts.items() if count == number]
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            notes.append(f"{len(names)} {'labels have' if len(names) > 1 else 'label has'} {what}: {shown}")
    return tuple(notes)


def write_skipped(path: Path, skipped: Sequence[SkippedRow]) -> None:
    """Write rows that were left out as CSV: row, reason, detail."""
    rows = ({"row": row.row, "reason": row.reason, "detail": row.detail} for row in skipped)
    write_table(path, SkippedRow.__slots__, rows, style=PLAIN)
