"""Feedback as a file to train on, and texts to ask people about: a table in any format, with each row's origin.

Its columns of text and label are those of a task where one is named, so that `refsynth label` takes the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from refsynth.core.errors import InputError
from refsynth.core.spans import names_in
from refsynth.data.table import distinct
from refsynth.data.write import write_table
from refsynth.service.monitor.record import FeedbackRow, PredictionRecord

Cells = Callable[[str, str], Mapping[str, str]]
"""What a text and its label are in the columns of a task."""

ORIGIN = ("predicted", "probability", "model", "request_id", "row", "source", "updated")
_REDACTED = re.compile(r"\[[A-Z_]+\]")


class Exported(NamedTuple):
    """Rows in the file, and those that are not: the text is not stored any more, or was redacted where words are labelled."""

    rows: int
    without_text: int


def plain(text: str, label: str) -> Mapping[str, str]:
    """Return the columns `text` and `label`."""
    return {"text": text, "label": label}


def export(
    record: PredictionRecord, path: Path, *, since: datetime | None = None, unsure: bool = False, cells: Cells = plain
) -> Exported:
    """Write all feedback whose text is known; the file is there whole or not at all.

    Args:
        record: what was predicted and said.
        path: the file; its suffix says the format.
        since: only of this time and later.
        unsure: write, without a label, what the model was unsure of and nobody has said anything of.
        cells: the columns of text and label.

    Raises:
        InputError: the file cannot be written.
        RecordError: the database fails.
    """
    source = _Source(record.unsure(since=since) if unsure else record.given(since=since), cells)
    heads = tuple(cells("", ""))
    columns = (*heads, *distinct(ORIGIN, {*map(str.casefold, heads)}))
    try:
        write_table(path, columns, source.rows())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="name another file") from error
    return Exported(source.written, source.without)


class _Source:
    """The rows of the file, counted as they go by."""

    def __init__(self, chunks: Iterable[list[FeedbackRow]], cells: Cells) -> None:
        self._chunks, self._cells = chunks, cells
        self._origin = distinct(ORIGIN, {*map(str.casefold, cells("", ""))})
        self.written = self.without = 0

    def rows(self) -> Iterator[dict[str, object]]:
        """Yield them, but for those whose text is not there, or where redaction changed the words that spans count."""
        for given in (given for chunk in self._chunks for given in chunk):
            spans = bool(given.label) and names_in(given.label) != (given.label,)
            if given.text is None or (spans and _REDACTED.search(given.text)):
                self.without += 1
                continue
            self.written += 1
            said = self._cells(given.text, given.label)
            origin = [getattr(given, name) for name in ORIGIN]
            yield {**said, **dict(zip(self._origin, origin, strict=True))}
