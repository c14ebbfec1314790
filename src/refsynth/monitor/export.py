"""Feedback as a file to train on: Parquet with the columns `text` and `label` that a task.yaml reads, and each row's origin."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from refsynth.core.errors import InputError
from refsynth.core.extras import require
from refsynth.monitor.record import Record


class Exported(NamedTuple):
    """Rows in the file, and feedback that is not: its text was not stored, or is out of retention."""

    rows: int
    without_text: int


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
        rows = [given._asdict() for given in chunk if given.text is not None]
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
