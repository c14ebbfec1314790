"""Reads doccano's entities with relations, and the annotations of its first versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.data.exports.form import ExportFormat, FormError, Read


def _has_entities(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("entities"), list) and "relations" in values and "label" not in values


def _read_entities(values: Mapping[str, Any]) -> Read:
    return Read({**values, "label": values["entities"]}, None, ("relations",) if values["relations"] else ())


def _has_annotations(values: Mapping[str, Any]) -> bool:
    items = values.get("annotations")
    return "text" in values and isinstance(items, list) and all(isinstance(item, dict) and "label" in item for item in items)


def _read_annotations(values: Mapping[str, Any]) -> Read:
    items = values["annotations"]
    if any(not isinstance(item["label"], str) for item in items):
        raise FormError(
            "labels are numbers of the project without their names: export it as 'JSONL (text label)', "
            "or replace the numbers by the names"
        )
    spans = [item for item in items if "start_offset" in item]
    if spans and len(spans) < len(items):
        raise FormError("labels of words and labels of the whole text in one row")
    return Read({**values, "label": items if spans else [item["label"] for item in items]})


DOCCANO = ExportFormat("an export of doccano", _has_entities, _read_entities)
DOCCANO_OLD = ExportFormat("an export of doccano's first versions", _has_annotations, _read_annotations)
