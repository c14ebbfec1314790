"""Argilla: records of version 2, nested or flat, of the feedback data sets before it, and of version 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refsynth.data.account import Reason
from refsynth.data.exports.form import ExportFormat, Read, agreed

_RESPONSES, _SUGGESTION = ".responses", ("-suggestion", ".suggestion")
_LEFT = ("discarded", "draft")


def _is_record(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("fields"), dict) and ("responses" in values or "suggestions" in values)


def _read_record(values: Mapping[str, Any]) -> Read:
    responses, suggestions = values.get("responses") or {}, values.get("suggestions") or {}
    plain = {**({"id": values["id"]} if "id" in values else {}), **values["fields"]}
    return _answered(plain, {question: list(given) for question, given in responses.items()}, bool(suggestions))


def _is_flat(values: Mapping[str, Any]) -> bool:
    return any(key.endswith((_RESPONSES, *_SUGGESTION)) for key in values)


def _read_flat(values: Mapping[str, Any]) -> Read:
    """Return a flat record: `label.responses` with `label.responses.status`, or before version 2 `label`, a list of responses."""
    given: dict[str, list[Mapping[str, Any]]] = {}
    for key, value in values.items():
        if key.endswith(_RESPONSES):
            status = values.get(f"{key}.status") or []
            rows = value or []
            states = [*status, *[None] * (len(rows) - len(status))]
            given[key.removesuffix(_RESPONSES)] = [{"value": v, "status": s} for v, s in zip(rows, states, strict=False)]
        elif isinstance(value, list) and value and all(isinstance(each, dict) and "value" in each for each in value):
            given[key] = value
    return _answered(values, given, any(values.get(key) for key in values if key.endswith(_SUGGESTION)))


def _answered(plain: Mapping[str, Any], given: Mapping[str, Sequence[Mapping[str, Any]]], suggested: bool) -> Read:
    """Return the record with each question's answer under its name, and under `label` where there is one question."""
    if not given and "label" in plain:  # a plain row beside suggestions
        return Read(plain)
    answers: dict[str, Any] = {}
    reason: Reason | None = None
    for question, responses in given.items():
        kept = [each["value"] for each in responses if each.get("status") not in _LEFT and each.get("value") is not None]
        if kept:
            answers[question], differ = agreed(kept)
            reason = reason or differ
        elif responses:
            reason = reason or "not accepted"
    if len(answers) > 1:
        return Read({**plain, **answers}, reason, (f"several questions ({', '.join(answers)}): name one as the label",))
    if not answers and reason is None and suggested:
        reason = "only suggested"
    return Read({**plain, **answers, "label": next(iter(answers.values()), None)}, reason)


def _is_old(values: Mapping[str, Any]) -> bool:
    return "annotation" in values and "status" in values and ("prediction" in values or "annotation_agent" in values)


def _read_old(values: Mapping[str, Any]) -> Read:
    found = values["annotation"]
    if str(values["status"]).lower() == "discarded":
        return Read({**values, "label": None}, "not accepted")
    if found is None:
        return Read({**values, "label": None}, "only suggested" if values.get("prediction") else None)
    return Read({**values, "label": [_place(each) for each in found] if isinstance(found, list) else found})


def _place(value: Any) -> Any:
    """Return a span, which has its label in front; any other value as it is."""
    if isinstance(value, (list, tuple)) and len(value) >= 3 and isinstance(value[0], str):
        return {"start": value[1], "end": value[2], "label": value[0]}
    return value


ARGILLA = ExportFormat("a record of Argilla", _is_record, _read_record)
ARGILLA_FLAT = ExportFormat("a flat record of Argilla", _is_flat, _read_flat)
ARGILLA_OLD = ExportFormat("a record of Argilla 1", _is_old, _read_old)
