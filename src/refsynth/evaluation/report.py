"""Report: everything that a run can show for itself, as one tree of plain values, rendered as HTML, Markdown or JSON.

A section that is None is left out with one line saying why. The HTML is one file: no script, no network, no font to fetch. All
text of the user is escaped, and cut visibly where it is long. Knows nothing of the run folder; `pipeline` fills the tree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from refsynth.evaluation.advice import advise, verdict
from refsynth.evaluation.sections import (
    Calibration,
    Classes,
    Compression,
    Data,
    Drafts,
    Gate,
    Lineage,
    Results,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The root. `language` is that of the texts; `date` is ISO 8601; `labels` maps names to what they mean.

    `absent` tells, by a section's field name, why that section is None.
    """

    title: str
    task: str
    language: str
    date: str
    version: str
    labels: Mapping[str, str]
    results: Results | None = None
    gate: Gate | None = None
    classes: Classes | None = None
    calibration: Calibration | None = None
    drafts: Drafts | None = None
    data: Data | None = None
    compression: Compression | None = None
    lineage: Lineage | None = None
    absent: Mapping[str, str] = field(default_factory=dict)


def to_json(report: Report) -> str:
    """Return the tree as indented JSON, with the verdict and the advice beside it; NaN becomes null."""
    tree = {"verdict": verdict(report), "next": list(advise(report)), **_plain(report)}
    text = json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written to a file


def render_html(report: Report) -> str:
    """Return the report as one self-contained HTML page."""
    from refsynth.evaluation.render import html

    return html(report)


def render_markdown(report: Report) -> str:
    """Return the report as Markdown, tables in place of plots."""
    from refsynth.evaluation.render import markdown

    return markdown(report)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):  # a NamedTuple, whose field names JSON would otherwise lose
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
