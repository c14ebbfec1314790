"""The summary of a run in sentences: how good the model is, whether drafts help, whether the contract is kept."""

from __future__ import annotations

from collections.abc import Mapping

from refsynth.core.types import Metric
from refsynth.evaluation.overlap import Overlap, be
from refsynth.evaluation.state import ReportState, Use, state_of
from refsynth.evaluation.tree import Report

TAGS: Mapping[Use, str] = {
    "off": "No drafts",
    "unwritten": "No drafts",
    "unkept": "No drafts",
    "untested": "Drafts are used, untested",
    "unchosen": "Drafts are not used",
    "helpful": "Drafts are used",
    "harmful": "Drafts are not used",
    "unclear": "Drafts are not used",
}
"""The use of drafts in a few words."""


def points(gain: Metric) -> str:
    """Return a gain in percentage points, such as `+6.7 points [+2.1, +11.4]`."""
    return f"{100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def verdict(report: Report) -> str:
    """Return a sentence on how good the model is, one on drafts, and one on a contract that is not kept."""
    state = state_of(report)
    sentences = [quality(report, state), drafts(report, state)]
    if state.contract == "missed" and report.compression:
        sentences.append(f"No form of the model keeps the contract ({report.compression.asked}); the nearest ships.")
    return " ".join(sentences)


def quality(report: Report, state: ReportState) -> str:
    """Return how good the shipped model is, and on which rows."""
    shared = _shared_clause(report.overlap) if report.overlap else ""
    score, results = state.score, report.results
    if results is None:
        reason = report.absent.get("results", "there were no labeled rows to measure it on")
        return f"This model was not measured: {reason}{shared}."
    if score is None:
        return f"The shipped model was not measured on labeled rows, only the model from which it was made{shared}."
    new = "new " if report.overlap and report.overlap.same else ""
    rows = f"{new}rows of {results.file or 'the test file'}" if state.measured == "test file" else "real rows, cross-validated"
    return f"The bundle's {score.name} is {stated(score)} on {score.n:,} {rows}{shared}.{_beside_usual(state)}"


def _beside_usual(state: ReportState) -> str:
    """Return a warning if the model is not clearly better than the most frequent answer; else an empty string."""
    score, usual = state.score, state.usual
    if score is None or usual is None or not usual.value or score.low > usual.value:
        return ""
    return f" This is not clearly better than always giving the most frequent answer ({usual.value:.1%})."


def drafts(report: Report, state: ReportState) -> str:
    """Return the effect of drafts, or why there are none, and what the bundle is trained on."""
    gate, noun = report.gate, state.noun
    learner = f" ({gate.learner})" if gate else ""
    without = f"so the bundle is trained on {state.learned_from}{learner}"
    if gate is not None and gate.gain is not None:
        gain = f"{points(gate.gain)} on {gate.gain.n:,} held-out real rows"
        if state.use == "helpful":
            return f"{noun.capitalize()} help: {gain}, so the bundle is trained with them{learner}."
        what = (
            f"{noun.capitalize()} do harm"
            if state.use == "harmful"
            else f"The effect of {noun} is not distinguishable from chance"
        )
        return f"{what}: {gain}, {without}."
    if state.use == "untested":
        return f"The bundle is trained with {noun}, whose effect was not measured on real rows."
    if state.use == "unchosen":
        return f"The learner that ships was not measured with {noun}, {without}."
    return f"{why_none(report, state)}. The bundle is trained on {state.learned_from}{learner}."


def why_none(report: Report, state: ReportState) -> str:
    """Return why there are no drafts, as a sentence without full stop."""
    if not state.wanted:
        return "No drafts were requested (synthesis.drafts: 0)"
    requested = f"{state.wanted:,} drafts were requested"
    if state.written:
        return f"{requested}, {state.written:,} were written and none was kept"
    hindrance = report.drafting.hindrance if report.drafting else ""
    return f"{requested} and none was written{f': {hindrance}' if hindrance else ''}"


def closing(report: Report) -> str:
    """Return the last sentence of a report without advice."""
    state = state_of(report)
    if state.score is None:
        return "Measure what ships on labeled rows before it is served: refsynth evaluate BUNDLE FILE."
    look = ", and look at the rows on which it is unsure" if state.unsure else ""
    return f"Nothing stands out: if {stated(state.score)} is good enough, serve it{look}."


def stated(score: Metric) -> str:
    """Return a score with its interval, such as `76.8% [73.1-80.2]`."""
    return f"{score.value:.1%} [{100 * score.low:.1f}-{100 * score.high:.1f}]"


def _shared_clause(overlap: Overlap) -> str:
    """Return a clause on test rows that are also training rows, with the figure on all rows."""
    if not overlap.same:
        return ""
    if overlap.new is None:
        known = f"{overlap.counted(overlap.same)} also in train, where its {overlap.whole.name} is {stated(overlap.whole)}"
        return f"; nothing was measured on new rows of {overlap.file}: {known}"
    return f" ({stated(overlap.whole)} on all {overlap.n:,}, of which {len(overlap.same):,} {be(overlap.same)} also in train)"
