"""Reads Label Studio's JSON (a task with its annotations), and its JSON-MIN and CSV (a column per control of the page)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from refsynth.data.account import Reason
from refsynth.data.exports.form import ExportFormat, FormError, Read, agreed

_IN_CELL = '{"choices"'  # start of several choices in a cell of CSV


def _is_task(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("data"), dict) and isinstance(_annotations(values), list)


def _annotations(values: Mapping[str, Any]) -> Any:
    return values.get("annotations", values.get("completions"))


def _read_task(values: Mapping[str, Any]) -> Read:
    """Read a task with its annotations that were not canceled; if some are marked as ground truth, only these."""
    plain = {"id": values.get("id"), **values["data"]}
    annotations = _annotations(values)
    done = [item for item in annotations if not (item.get("was_cancelled") or item.get("skipped"))]
    done = [item for item in done if item.get("ground_truth")] or done
    if not done:
        left: Reason | None = "not accepted" if annotations else "only suggested" if values.get("predictions") else None
        return Read({**plain, "label": None}, left)
    answers = [_controls(item.get("result") or []) for item in done]
    unread = sorted({kind for _, kinds in answers for kind in kinds})
    answer, reason = agreed([controls for controls, _ in answers])
    if reason:
        return Read({**plain, "label": None}, reason, tuple(unread))
    if len(answer) > 1:
        return Read({**plain, **answer}, None, (*unread, f"several controls ({', '.join(answer)}): name one as the label"))
    return Read({**plain, **answer, "label": next(iter(answer.values()), [])}, None, tuple(unread))


def _controls(results: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], set[str]]:
    """Return one annotator's answers by control of the page, and the kinds of results that are not read."""
    answers: dict[str, Any] = {}
    unread: set[str] = set()
    for result in results:
        kind, value, control = result.get("type", ""), result.get("value", {}), result.get("from_name", "label")
        if "choices" in value and "start" not in value:
            answers[control] = value["choices"]
        elif "labels" in value or "hypertextlabels" in value or "paragraphlabels" in value:
            answers.setdefault(control, []).append(_span(value))
        else:
            unread.add(str(kind) or "other results")
    return answers, unread


def _span(value: Mapping[str, Any]) -> dict[str, Any]:
    labels = value.get("labels", ())
    if type(value.get("start")) is not int:
        raise FormError("a span in HTML or in a dialogue has no offsets in a text: label plain text (<Text>, <Labels>)")
    if len(labels) != 1:
        raise FormError(f"a span with {len(labels)} labels ({', '.join(map(str, labels))}), expected one")
    return {"start": value["start"], "end": value["end"], "label": labels[0], "text": value.get("text")}


def _is_flat(values: Mapping[str, Any]) -> bool:
    return any(_choices(value) is not None for value in values.values())


def _choices(value: Any) -> Any:
    """Return several choices, an object in JSON-MIN and its text in CSV; None for any other value."""
    if isinstance(value, str) and value.startswith(_IN_CELL):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value["choices"] if isinstance(value, dict) and list(value) == ["choices"] else None


def _read_flat(values: Mapping[str, Any]) -> Read:
    return Read({key: value if (choices := _choices(value)) is None else choices for key, value in values.items()})


LABEL_STUDIO = ExportFormat("a task of Label Studio", _is_task, _read_task)
LABEL_STUDIO_MIN = ExportFormat("a row of Label Studio's JSON-MIN or CSV", _is_flat, _read_flat)
