"""Replaces class numbers by names in a Parquet file of Hugging Face `datasets`, whose metadata name the classes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from refsynth.core.extras import require
from refsynth.data.table import Fault, TableRecord

Names = Mapping[str, tuple[str, ...]]


def class_names(path: Path) -> Names:
    """Return the class names of each column of classes or of lists of classes; empty if the file has no metadata."""
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
    """Yield rows with names in place of class numbers. -1 means no label; other numbers without a name stay."""
    for record in rows:
        if isinstance(record, TableRecord):
            cells = record.values
            named = {column: _named(cells[column], known) for column, known in names.items() if column in cells}
            record = record._replace(values={**cells, **named})
        yield record


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return names[value] if 0 <= value < len(names) else None if value == -1 else value
    return value
