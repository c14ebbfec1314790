"""The account of a data file: which rows were left out and why, and which labels are thin. Holds no text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from refsynth.data.source import WORKBOOKS
from refsynth.data.write import PLAIN, write_table

Reason = Literal[
    "empty text", "half a pair", "no label", "no weight", "duplicate", "conflict", "unknown label", "malformed",
    "not accepted", "annotators differ", "only suggested",
]  # fmt: skip
"""Why a row is left out. The last three are said by the tool that it was labelled with: people left it out, did not agree, or
have not looked yet at what a model suggested."""

_SHOWN = 12  # labels in a note


class RowPlace(NamedTuple):
    """Where a person finds a row: in which file, at which row of a spreadsheet (or line), and what the file calls it."""

    file: str = ""
    sheet_row: int | None = None
    own_id: str = ""

    @property
    def in_sheet(self) -> bool:
        """Whether a person sees its number in the file itself."""
        return self.file.lower().endswith(WORKBOOKS) and self.sheet_row is not None


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was left out, with the reason and what exactly was found. Two are equal wherever they stand."""

    row: int
    reason: Reason
    detail: str
    place: RowPlace = field(default=RowPlace(), compare=False)


def describe_skipped(skipped: Sequence[SkippedRow]) -> tuple[str, ...]:
    """Return a sentence for each reason that rows were left out for, with the rows' numbers."""
    sentences = []
    for reason, count in Counter(row.reason for row in skipped).items():
        mine = [row for row in skipped if row.reason == reason]
        sheet = all(row.place.in_sheet for row in mine)
        shown = ", ".join(str(row.place.sheet_row if sheet else row.row) for row in mine[:5])
        shown += f" and {count - 5} more" if count > 5 else ""
        rows = "rows" if count > 1 else "row"
        sentences.append(f"{count} {rows} dropped: {reason} ({'sheet ' * sheet}{rows} {shown})")
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
    """Write rows that were left out as CSV: which, reason, detail, and where a person finds each."""
    rows = ({"row": row.row, "reason": row.reason, "detail": row.detail, **row.place._asdict()} for row in skipped)
    write_table(path, ("row", "reason", "detail", *RowPlace._fields), rows, style=PLAIN)
