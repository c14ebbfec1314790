"""Report: everything that a run can show for itself, as one tree of plain values, rendered as HTML, Markdown or JSON.

A section that is None is left out with one line saying why. The HTML is one file: no script, no network, no font to fetch. All
text of the user is escaped, and cut visibly where it is long. Knows nothing of the run folder; `pipeline` fills the tree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from refsynth.core.intervals import INTERVALS
from refsynth.evaluation.advice import advise, verdict
from refsynth.evaluation.render import render_html, render_markdown
from refsynth.evaluation.tree import Report

__all__ = ["Report", "render_html", "render_markdown", "to_json"]


def to_json(report: Report) -> str:
    """Return the tree as indented JSON, with the verdict, the advice and the method of intervals beside it; NaN becomes null."""
    tree = {"verdict": verdict(report), "next": list(advise(report)), "intervals": INTERVALS, **_plain(report)}
    text = json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written to a file


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
