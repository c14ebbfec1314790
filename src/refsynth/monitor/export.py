"""Feedback as a file to train on: Parquet with the columns `text` and `label` that a task.yaml reads, and each row's origin."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from refsynth.core.errors import InputError
from refsynth.core.extras import require
from refsynth.core.spans import names_in
from refsynth.monitor.record import Given, Record


class Exported(NamedTuple):
    """Rows in the file, and feedback that is not: its text is not stored any more, or was redacted where words are labelled."""

    rows: int
    without_text: int


_REDACTED = re.compile(r"\[[A-Z_]+\]")


def export(record: Record, path: Path, *, since: datetime | None = None) -> Exported:
    """Write all feedback whose text is known; the file is there whole or not at all.

    Raises:
        InputError: the file cannot be written.
        RecordError: the database fails.
    """
    polars = require("polars", extra="serve")
    schema = {
        **{"text": polars.String, "label": polars.String, "predicted": polars.String, "probability": polars.Float64},
        **{"model": polars.String, "request_id": polars.String, "row": polars.Int64, "source": polars.String},
        "updated": polars.Datetime("us", "UTC"),
    }
    frames, without = [polars.DataFrame(schema=schema)], 0
    for chunk in record.given(since=since):
        rows = [row for given in chunk if (row := _row(given)) is not None]
        without += len(chunk) - len(rows)
        frames.append(polars.DataFrame(rows, schema=schema))
    table = polars.concat(frames)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        table.write_parquet(temporary)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="name another file") from error
    return Exported(table.height, without)


def _row(given: Given) -> dict[str, object] | None:
    """Return a row of the file; None where its text is not there, or where redaction changed the words that its spans count."""
    spans = names_in(given.label) != (given.label,)
    return None if given.text is None or (spans and _REDACTED.search(given.text)) else given._asdict()
