"""Names of numbers in a Parquet file of Hugging Face `datasets`: its metadata say what a column of classes stands for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from refsynth.core.extras import require
from refsynth.data.table import Fault, TableRecord

Names = Mapping[str, tuple[str, ...]]


def class_names(path: Path) -> Names:
    """Return the names of each column of classes, or of lists of classes; empty where the file says nothing of them."""
    polars = require("polars", extra="train")
    try:
        features = json.loads(polars.read_parquet_metadata(path)["huggingface"])["info"]["features"]
        return {column: names for column, feature in features.items() if (names := _names(feature))}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _names(feature: Any) -> tuple[str, ...]:
    while isinstance(feature, (dict, list)) and "names" not in feature:
        feature = feature[0] if isinstance(feature, list) and feature else feature.get("feature") if feature else None
    names = feature["names"] if isinstance(feature, dict) and feature.get("_type", "ClassLabel") == "ClassLabel" else ()
    return tuple(map(str, names))


def with_names(rows: Iterator[TableRecord | Fault], names: Names) -> Iterator[TableRecord | Fault]:
    """Yield rows with names in place of the numbers of classes. A number without a name stays: -1 says that nobody knows."""
    for record in rows:
        if isinstance(record, Fault):
            yield record
        else:
            told = {column: _told(record.values.get(column), known) for column, known in names.items() if column in record.values}
            yield record._replace(values={**record.values, **told})


def _told(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_told(each, names) for each in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return names[value] if 0 <= value < len(names) else None if value == -1 else value
    return value
