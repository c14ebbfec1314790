"""Reads spaCy's training data as JSON, `[text, {"entities": [[0, 7, "person"]]}]`, and documents as JSON (`ents`, `cats`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.data.exports.form import ExportFormat, FormError, Read


def as_row(line: str) -> bool:
    """Return whether a line begins a list whose first item is a text, as a row of spaCy's training data does."""
    return line.startswith("[") and line[1:].lstrip().startswith('"')


def as_object(value: Any) -> Any:
    """Return spaCy's pair of a text and its annotations as one object; any other value unchanged."""
    paired = isinstance(value, list) and [type(item) for item in value] == [str, dict]
    if paired and not {"entities", "cats"}.isdisjoint(value[1]):
        return {"text": value[0], **value[1]}
    return value


def _has_cats(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("cats"), dict) and "label" not in values and not (values.get("entities") or values.get("ents"))


def _read_cats(values: Mapping[str, Any]) -> Read:
    """Read the categories with a score of at least 0.5; a document without categories has no label."""
    cats = values["cats"]
    wrong = next((name for name, value in cats.items() if not isinstance(value, (int, float))), None)
    if wrong is not None:
        raise FormError(f"the category {wrong[:40]!r} is not a number")
    if not cats:
        return Read({**values, "label": None})
    return Read({**values, "label": [name for name, value in cats.items() if value >= 0.5]})


def _has_entities(values: Mapping[str, Any]) -> bool:
    if isinstance(values.get("paragraphs"), list):
        return True
    entities = values.get("entities", values.get("ents"))
    return "text" in values and "label" not in values and "relations" not in values and isinstance(entities, list)


def _read_entities(values: Mapping[str, Any]) -> Read:
    if "paragraphs" in values:
        raise FormError('the JSON of `spacy train` 2 in paragraphs: write [text, {"entities": [[0, 7, "person"]]}], one a line')
    unread = ("categories of whole texts",) if values.get("cats") else ()
    return Read({**values, "label": values.get("entities", values.get("ents"))}, None, unread)


SPACY = ExportFormat("training data of spaCy", _has_entities, _read_entities)
SPACY_CATS = ExportFormat("categories of spaCy", _has_cats, _read_cats)
