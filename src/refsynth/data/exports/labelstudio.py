"""Label Studio: JSON, where a task holds its annotations, and JSON-MIN and CSV, where each control of the page is a column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from refsynth.data.account import Reason
from refsynth.data.exports.form import ExportFormat, FormError, Read, agreed

_IN_CELL = '{"choices"'  # how several choices begin in a cell of CSV


def _is_task(values: Mapping[str, Any]) -> bool:
    return isinstance(values.get("data"), dict) and isinstance(_annotations(values), list)


def _annotations(values: Mapping[str, Any]) -> Any:
    return values.get("annotations", values.get("completions"))


def _read_task(values: Mapping[str, Any]) -> Read:
    """Return the answers of a task that count: those that were not cancelled; of these the ground truth, where one is marked."""
    plain = {"id": values.get("id"), **values["data"]}
    given = _annotations(values)
    done = [each for each in given if not (each.get("was_cancelled") or each.get("skipped"))]
    done = [each for each in done if each.get("ground_truth")] or done
    if not done:
        left: Reason | None = "not accepted" if given else "only suggested" if values.get("predictions") else None
        return Read({**plain, "label": None}, left)
    answers = [_controls(each.get("result") or []) for each in done]
    unread = sorted({kind for _, kinds in answers for kind in kinds})
    answer, reason = agreed([controls for controls, _ in answers])
    if reason:
        return Read({**plain, "label": None}, reason, tuple(unread))
    if len(answer) > 1:
        return Read({**plain, **answer}, None, (*unread, f"several controls ({', '.join(answer)}): name one as the label"))
    return Read({**plain, **answer, "label": next(iter(answer.values()), [])}, None, tuple(unread))


def _controls(results: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], set[str]]:
    """Return what one person said under each control of the page, and the kinds of results that are not read."""
    said: dict[str, Any] = {}
    unread: set[str] = set()
    for result in results:
        kind, value, control = result.get("type", ""), result.get("value", {}), result.get("from_name", "label")
        if "choices" in value and "start" not in value:
            said[control] = value["choices"]
        elif "labels" in value or "hypertextlabels" in value or "paragraphlabels" in value:
            said.setdefault(control, []).append(_span(value))
        else:
            unread.add(str(kind) or "other results")
    return said, unread


def _span(value: Mapping[str, Any]) -> dict[str, Any]:
    labels = value.get("labels", ())
    if type(value.get("start")) is not int:
        raise FormError("a span in HTML or in a dialogue, whose place is no place in a text: label plain text (<Text>, <Labels>)")
    if len(labels) != 1:
        raise FormError(f"a span with {len(labels)} labels ({', '.join(map(str, labels))}): here it has one")
    return {"start": value["start"], "end": value["end"], "label": labels[0], "text": value.get("text")}


def _is_flat(values: Mapping[str, Any]) -> bool:
    return any(_choices(value) is not None for value in values.values())


def _choices(value: Any) -> Any:
    """Return several choices, of which JSON-MIN makes an object and CSV the text of one; None for any other value."""
    if isinstance(value, str) and value.startswith(_IN_CELL):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value["choices"] if isinstance(value, dict) and list(value) == ["choices"] else None


def _read_flat(values: Mapping[str, Any]) -> Read:
    return Read({key: value if (found := _choices(value)) is None else found for key, value in values.items()})


LABEL_STUDIO = ExportFormat("a task of Label Studio", _is_task, _read_task)
LABEL_STUDIO_MIN = ExportFormat("a row of Label Studio's JSON-MIN or CSV", _is_flat, _read_flat)
