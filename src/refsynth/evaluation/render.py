"""Renders a report as HTML or Markdown: fills a template with the report's values, plots and a few derived lists.

The templates decide what is shown. This module has the values, the number formats, and the escaping of user text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from refsynth.core.extras import require
from refsynth.core.intervals import INTERVALS
from refsynth.core.kinds import TASK_KINDS
from refsynth.core.markup import markdown, one_line
from refsynth.evaluation import plots
from refsynth.evaluation.advice import advise, top_confusions
from refsynth.evaluation.caption import capital
from refsynth.evaluation.headline import TAGS, closing, points, verdict, why_none
from refsynth.evaluation.state import state_of
from refsynth.evaluation.tree import Report

LONGEST_TEXT = 320
LONGEST_LABEL = 60
TABLE_MATRIX = 12
WEAKEST = 12
ROWS_LISTED = 12
ABSENT = {
    "results": "there were no labeled rows to measure a system on",
    "gate": "there were no drafts, or no labeled rows to test them on",
    "classes": "no labeled rows were held out to count mistakes on",
    "calibration": "no labeled rows were held out to compare confidence with",
    "data": "no data file was read",
    "compression": "the model is served as it was trained",
    "lineage": "it was not recorded",
}


def render_html(report: Report) -> str:
    """Return the report as one self-contained HTML page."""
    return _fill("report.html", report, escape=True)


def render_markdown(report: Report) -> str:
    """Return the report as Markdown, with tables instead of plots."""
    return _fill("report.md.j2", report, escape=False)


def _fill(template: str, report: Report, *, escape: bool) -> str:
    jinja2 = require("jinja2", extra="train")
    environment = jinja2.Environment(
        autoescape=escape, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(FORMATS)
    if not escape:
        environment.filters.update({name: _escaped(FORMATS[name]) for name in ("text", "label")})
    source = files(__package__).joinpath(template).read_text(encoding="utf-8")
    return str(environment.from_string(source).render(_context(report, jinja2.filters.Markup if escape else None)))


def _escaped(shorten: Callable[..., str]) -> Callable[..., str]:
    return lambda *arguments: markdown(shorten(*arguments))


def _context(report: Report, markup: Callable[[str], Any] | None) -> dict[str, Any]:
    """Return the variables of the templates; plots only if there is a `markup` type for SVG."""
    measured, state = report.classes.rows if report.classes else (), state_of(report)
    return {
        "report": report,
        "words": TASK_KINDS[report.task].words,
        "verdict": verdict(report),
        "intervals": INTERVALS,
        "advice": advise(report),
        "state": state,
        "tag": TAGS[state.use],
        "closing": closing(report),
        "absent": {**ABSENT, "drafts": why_none(report, state), **report.absent},
        "confusions": top_confusions(report),
        "by_f1": sorted((row for row in measured if row.support), key=lambda row: row.f1),
        "unmeasured": [row for row in measured if not row.support],
        "thresholds": any(row.threshold is not None for row in measured),
        "table_matrix": TABLE_MATRIX,
        "weakest": WEAKEST,
        "plots": {name: markup(svg) for name, svg in _plots(report).items()} if markup else {},
    }


def _plots(report: Report) -> dict[str, str]:
    drawn = {}
    if report.results:
        comparable = [system for system in report.results.systems if system.score and system.score.n == report.results.n]
        if comparable:
            drawn["results"] = plots.results(comparable)
    if report.gate and report.gate.with_drafts:
        drawn["gate"] = plots.gate(report.gate.comparisons, measure=report.gate.measure)
    if report.classes and report.classes.confusion and len(report.classes.rows) > TABLE_MATRIX:
        drawn["confusion"] = plots.confusion([row.label for row in report.classes.rows], report.classes.confusion)
    if report.calibration:
        drawn["reliability"] = plots.reliability(report.calibration.bins, report.calibration.words)
        drawn["coverage"] = plots.risk_coverage(report.calibration)
    if report.compression and len(report.compression.variants) > 1:
        drawn["frontier"] = plots.frontier(report.compression.variants)
    if report.drafts and report.drafts.reinforced:
        drawn["reinforcement"] = plots.reinforcement(report.drafts.reinforced)
    for number, histogram in enumerate(report.drafts.scores if report.drafts else ()):
        drawn[f"scores-{number}"] = plots.scores(histogram, number)
    return drawn


def cut(value: str, limit: int = LONGEST_TEXT) -> str:
    """Return a text on one line; a longer one is cut at `limit` characters, and the cut is shown."""
    line = one_line(value)
    return line if len(line) <= limit else f"{line[:limit].rstrip()}… (+{len(line) - limit:,} characters)"


def _significant(value: float) -> str:
    """Return a number with three significant digits and thousands separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _row_list(rows: tuple[int, ...]) -> str:
    shown = ", ".join(str(row) for row in rows[:ROWS_LISTED])
    return shown if len(rows) <= ROWS_LISTED else f"{shown} … (+{len(rows) - ROWS_LISTED:,})"


FORMATS: Mapping[str, Callable[..., str]] = {
    "text": cut,
    "capital": capital,
    "label": lambda value: cut(value, LONGEST_LABEL),
    "percent": lambda value, digits=1: f"{100 * value:.{digits}f}",
    "range": lambda metric: f"[{100 * metric.low:.1f}–{100 * metric.high:.1f}]",
    "points": points,
    "significant": _significant,
    "row_list": _row_list,
    "count": lambda value: f"{value:,}",
}
