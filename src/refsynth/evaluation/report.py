"""The report of a run: one tree of plain values, rendered as HTML, Markdown or JSON.

A section that is None is replaced by one line that says why. The HTML is one file without scripts, network access or fonts to
load. User text is escaped and, if long, visibly cut. Knows nothing of the run folder; `pipeline` fills the tree.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from refsynth.core.intervals import INTERVALS
from refsynth.evaluation.advice import advise
from refsynth.evaluation.headline import verdict
from refsynth.evaluation.render import render_html, render_markdown
from refsynth.evaluation.tree import Report

__all__ = ["Report", "render_html", "render_markdown", "to_json"]


def to_json(report: Report) -> str:
    """Return the tree as indented JSON, with the verdict, the advice and the method of intervals; NaN becomes null."""
    tree = {"verdict": verdict(report), "next": list(advise(report)), "intervals": INTERVALS, **_plain(report)}
    text = json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be written to a file


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
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
