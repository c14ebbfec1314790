"""Export feedback as a table to train on, or unsure texts as a table to label, with the origin of each row.

The text and label columns can be those of a task, so that `refsynth label` reads the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from refsynth.core.errors import InputError
from refsynth.core.spans import names_in
from refsynth.data.table import distinct
from refsynth.data.write import write_table
from refsynth.service.monitor.record import PredictionRecord

Cells = Callable[[str, str], Mapping[str, str]]
"""Maps a text and its label to the columns of a task."""

ORIGIN = ("predicted", "probability", "model", "request_id", "row", "source", "updated")
_REDACTED = re.compile(r"\[[A-Z_]+\]")


class Exported(NamedTuple):
    """Rows in the file, and rows left out: their text is no longer stored, or redaction changed words that spans count."""

    rows: int
    without_text: int


def plain(text: str, label: str) -> Mapping[str, str]:
    """Return the columns `text` and `label`."""
    return {"text": text, "label": label}


def export(
    record: PredictionRecord, path: Path, *, since: datetime | None = None, unsure: bool = False, cells: Cells = plain
) -> Exported:
    """Write all feedback whose text is stored, atomically.

    Args:
        record: predictions and feedback.
        path: the file; its suffix decides the format.
        since: skip older rows.
        unsure: instead write, without labels, the texts that the model was unsure of and that have no feedback.
        cells: maps a text and its label to columns.

    Raises:
        InputError: the file cannot be written.
        RecordError: the database fails.
    """
    heads = tuple(cells("", ""))
    origin = distinct(ORIGIN, {*map(str.casefold, heads)})
    written = without_text = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal written, without_text
        for row in chain.from_iterable(record.unsure(since=since) if unsure else record.all_feedback(since=since)):
            spans = bool(row.label) and names_in(row.label) != (row.label,)
            if row.text is None or (spans and _REDACTED.search(row.text)):
                without_text += 1
                continue
            written += 1
            values = (getattr(row, name) for name in ORIGIN)
            yield {**cells(row.text, row.label), **dict(zip(origin, values, strict=True))}

    try:
        write_table(path, (*heads, *origin), rows())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="name another file") from error
    return Exported(written, without_text)
