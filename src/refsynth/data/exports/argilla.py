"""Reads Argilla's records of version 2 (nested or flat), of the older feedback data sets, and of version 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from refsynth.data.account import Reason
from refsynth.data.exports.form import ExportFormat, Read, agreed

_RESPONSES, _SUGGESTION = ".responses", ("-suggestion", ".suggestion")
_NOT_SUBMITTED = ("discarded", "draft")


def _is_record(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("fields"), dict) and ("responses" in values or "suggestions" in values)


def _read_record(values: Mapping[str, Any]) -> Read:
    responses, suggestions = values.get("responses") or {}, values.get("suggestions") or {}
    plain = {**({"id": values["id"]} if "id" in values else {}), **values["fields"]}
    return _answered(plain, {question: list(answers) for question, answers in responses.items()}, bool(suggestions))


def _is_flat(values: Mapping[str, Any]) -> bool:
    return any(key.endswith((_RESPONSES, *_SUGGESTION)) for key in values)


def _read_flat(values: Mapping[str, Any]) -> Read:
    """Read a flat record: `label.responses` with `label.responses.status`, or before version 2 `label`, a list of responses."""
    responses: dict[str, list[Mapping[str, Any]]] = {}
    for key, value in values.items():
        if key.endswith(_RESPONSES):
            answers = value or []
            status = values.get(f"{key}.status") or []
            states = [*status, *[None] * (len(answers) - len(status))]
            responses[key.removesuffix(_RESPONSES)] = [
                {"value": answer, "status": state} for answer, state in zip(answers, states, strict=False)
            ]
        elif isinstance(value, list) and value and all(isinstance(item, dict) and "value" in item for item in value):
            responses[key] = value
    return _answered(values, responses, any(values.get(key) for key in values if key.endswith(_SUGGESTION)))


def _answered(plain: Mapping[str, Any], responses: Mapping[str, Sequence[Mapping[str, Any]]], suggested: bool) -> Read:
    """Return the record with each question's answer under its name, and under `label` if there is only one question."""
    if not responses and "label" in plain:  # a plain row with suggestions
        return Read(plain)
    answers: dict[str, Any] = {}
    reason: Reason | None = None
    for question, items in responses.items():
        submitted = [item for item in items if item.get("status") not in _NOT_SUBMITTED and item.get("value") is not None]
        if submitted:
            answers[question], differ = agreed([item["value"] for item in submitted])
            reason = reason or differ
        elif items:
            reason = reason or "not accepted"
    if len(answers) > 1:
        return Read({**plain, **answers}, reason, (f"several questions ({', '.join(answers)}): name one as the label",))
    if not answers and reason is None and suggested:
        reason = "only suggested"
    return Read({**plain, **answers, "label": next(iter(answers.values()), None)}, reason)


def _is_old(values: Mapping[str, Any]) -> bool:
    return "annotation" in values and "status" in values and ("prediction" in values or "annotation_agent" in values)


def _read_old(values: Mapping[str, Any]) -> Read:
    annotation = values["annotation"]
    if str(values["status"]).lower() == "discarded":
        return Read({**values, "label": None}, "not accepted")
    if annotation is None:
        return Read({**values, "label": None}, "only suggested" if values.get("prediction") else None)
    return Read({**values, "label": [_span(item) for item in annotation] if isinstance(annotation, list) else annotation})


def _span(value: Any) -> Any:
    """Return a span, which Argilla writes with its label first, as an object; any other value unchanged."""
    if isinstance(value, (list, tuple)) and len(value) >= 3 and isinstance(value[0], str):
        return {"start": value[1], "end": value[2], "label": value[0]}
    return value


ARGILLA = ExportFormat("a record of Argilla", _is_record, _read_record)
ARGILLA_FLAT = ExportFormat("a flat record of Argilla", _is_flat, _read_flat)
ARGILLA_OLD = ExportFormat("a record of Argilla 1", _is_old, _read_old)
