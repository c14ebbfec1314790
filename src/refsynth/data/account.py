"""Lists the rows of a data file that were left out, and the labels with few rows. Holds no text."""

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
"""Why a row is left out. The last three come from the labeling tool: annotators rejected the row, disagreed, or have not yet
reviewed a model's suggestion."""

_SHOWN = 12  # labels in a note


class RowPlace(NamedTuple):
    """Where a person finds a row: the file, the row of a spreadsheet (or the line), and the row's id in the file."""

    file: str = ""
    sheet_row: int | None = None
    own_id: str = ""

    @property
    def in_sheet(self) -> bool:
        """Whether the file itself shows the row number."""
        return self.file.lower().endswith(WORKBOOKS) and self.sheet_row is not None


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that was left out, the reason, and what exactly was found. Equality ignores the place."""

    row: int
    reason: Reason
    detail: str
    place: RowPlace = field(default=RowPlace(), compare=False)


def describe_skipped(skipped: Sequence[SkippedRow]) -> tuple[str, ...]:
    """Return one sentence for each reason, with the number of rows left out and the first of them."""
    sentences = []
    for reason, count in Counter(row.reason for row in skipped).items():
        matching = [row for row in skipped if row.reason == reason]
        sheet = all(row.place.in_sheet for row in matching)
        shown = ", ".join(str(row.place.sheet_row if sheet else row.row) for row in matching[:5])
        shown += f" and {count - 5} more" if count > 5 else ""
        rows = "rows" if count > 1 else "row"
        sentences.append(f"{count} {rows} dropped: {reason} ({'sheet ' * sheet}{rows} {shown})")
    return tuple(sentences)


def describe_thin(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return a sentence about the labels without rows, and one about the labels with one row."""
    notes = []
    for number, what in ((0, "no rows"), (1, "one row only")):
        names = [label for label, count in counts.items() if count == number]
        if names:
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            notes.append(f"{len(names)} {'labels have' if len(names) > 1 else 'label has'} {what}: {shown}")
    return tuple(notes)


def write_skipped(path: Path, skipped: Sequence[SkippedRow]) -> None:
    """Write the rows that were left out as CSV: number, reason, detail and place."""
    rows = ({"row": row.row, "reason": row.reason, "detail": row.detail, **row.place._asdict()} for row in skipped)
    write_table(path, ("row", "reason", "detail", *RowPlace._fields), rows, style=PLAIN)
