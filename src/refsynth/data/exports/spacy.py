"""spaCy: its training data as JSON, `[text, {"entities": [[0, 7, "person"]]}]`, and documents as JSON (`ents`, `cats`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from refsynth.data.exports.form import ExportFormat, FormError, Read


def as_row(line: str) -> bool:
    """Return whether a line begins a list with a text in front, as one row of spaCy's training data does."""
    return line.startswith("[") and line[1:].lstrip().startswith('"')


def as_object(value: Any) -> Any:
    """Return a text with its annotations as one object, as spaCy's training data has them; any other value as it is."""
    paired = isinstance(value, list) and [type(each) for each in value] == [str, dict]
    if paired and not {"entities", "cats"}.isdisjoint(value[1]):
        return {"text": value[0], **value[1]}
    return value


def _has_cats(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("cats"), dict) and "label" not in values and not (values.get("entities") or values.get("ents"))


def _read_cats(values: Mapping[str, Any]) -> Read:
    """Return the categories that are more likely than not; a document without any has none."""
    cats = values["cats"]
    wrong = next((name for name, value in cats.items() if not isinstance(value, (int, float))), None)
    if wrong is not None:
        raise FormError(f"the category {wrong[:40]!r} is no number")
    if not cats:
        return Read({**values, "label": None})
    return Read({**values, "label": [name for name, value in cats.items() if value >= 0.5]})


def _has_entities(values: Mapping[str, Any]) -> bool:
    if isinstance(values.get("paragraphs"), list):
        return True
    given = values.get("entities", values.get("ents"))
    return "text" in values and "label" not in values and "relations" not in values and isinstance(given, list)


def _read_entities(values: Mapping[str, Any]) -> Read:
    if "paragraphs" in values:
        raise FormError('the JSON of `spacy train` 2 in paragraphs: write [text, {"entities": [[0, 7, "person"]]}], one a line')
    unread = ("categories of whole texts",) if values.get("cats") else ()
    return Read({**values, "label": values.get("entities", values.get("ents"))}, None, unread)


SPACY = ExportFormat("training data of spaCy", _has_entities, _read_entities)
SPACY_CATS = ExportFormat("categories of spaCy", _has_cats, _read_cats)
