"""Doccano: entities with relations, and the annotations of its first versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.data.exports.form import ExportFormat, FormError, Read


def _has_entities(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("entities"), list) and "relations" in values and "label" not in values


def _read_entities(values: Mapping[str, Any]) -> Read:
    return Read({**values, "label": values["entities"]}, None, ("relations",) if values["relations"] else ())


def _has_annotations(values: Mapping[str, Any]) -> bool:
    given = values.get("annotations")
    return "text" in values and isinstance(given, list) and all(isinstance(each, dict) and "label" in each for each in given)


def _read_annotations(values: Mapping[str, Any]) -> Read:
    given = values["annotations"]
    if any(not isinstance(each["label"], str) for each in given):
        raise FormError(
            "labels are numbers of the project, whose names are not in the file: export it as 'JSONL (text label)', "
            "or put the names in place of the numbers"
        )
    places = [each for each in given if "start_offset" in each]
    if places and len(places) < len(given):
        raise FormError("labels of words and labels of the whole text in one row")
    return Read({**values, "label": given if places else [each["label"] for each in given]})


DOCCANO = ExportFormat("an export of doccano", _has_entities, _read_entities)
DOCCANO_OLD = ExportFormat("an export of doccano's first versions", _has_annotations, _read_annotations)
