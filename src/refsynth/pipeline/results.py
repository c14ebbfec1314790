"""The report's table of results: each model that was measured, once, and the one that ships with its speed and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refsynth.bundle.model import load
from refsynth.compress.forms import FULL
from refsynth.compress.shrink import SIMPLE
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.run import size_of
from refsynth.core.types import Array, IntArray, Metric
from refsynth.evaluation import sections
from refsynth.evaluation.testfile import MAJORITY, SHIPPED, TestResult
from refsynth.kinds import KINDS, Kind
from refsynth.learning.candidates import Candidate
from refsynth.pipeline.compression import speeds
from refsynth.pipeline.evidence import Evidence


def results_of(evidence: Evidence) -> sections.Results | None:
    """Return the table, or None where nothing was measured."""
    said = said_of(evidence)
    if said is None:
        return None
    decision, kind, n = evidence.learned.decision, kind_of(evidence), len(said.truth)

    def system(name: str, key: str, detail: str) -> sections.System:
        return _system(evidence, name, detail, said, key)

    usual = "no span at all" if kind.spans else f"the most frequent {'set of labels' if kind.several else 'label'}"
    systems = [replace(system("all O" if kind.spans else "majority", MAJORITY, usual), usual=True)]
    same = _shipped_as(evidence)
    shown = [Candidate(name, False) for name in _beside() if name in said.answers]
    systems += [system(LEARNERS[one.learner].title, str(one), "real rows only") for one in shown if one != same]
    if decision.real not in (same, *shown):
        systems.append(system("real rows only", str(decision.real), LEARNERS[decision.real.learner].title))
    if decision.mixed and decision.mixed != same:
        systems.append(system("real + synthetic", str(decision.mixed), LEARNERS[decision.mixed.learner].title))
    systems.append(_shipped(evidence, said, same))
    test, overlap = evidence.task.test, evidence.overlap
    if evidence.measured is None or test is None:
        return sections.Results(systems=tuple(systems), source="cross-validation", n=n)
    if evidence.test is not None and overlap is not None and overlap.same:
        name, detail = f"the bundle, all {overlap.n:,} rows", f"{len(overlap.same):,} of them in train too"
        systems.insert(-1, _system(evidence, name, detail, SystemAnswers.of(evidence.test), SHIPPED))
    held, own = evidence.learned.held, evidence.shrunk.logits
    crossed = None if held is None or own is None else held.score_of(own)
    return sections.Results(systems=tuple(systems), source="test file", n=n, file=test.name, crossed=crossed)


def _shipped_as(evidence: Evidence) -> Candidate | None:
    """Return the candidate that ships as it was trained: a row of its own would show one model twice. None if it is cut."""
    shipped, form = evidence.learned.decision.shipped, evidence.shrunk.name
    if evidence.tiers.bundle != evidence.tiers.main:
        return None
    if form == FULL:
        return shipped
    return next((Candidate(name, shipped.drafts) for name in SIMPLE if name == form), None)


def _shipped(evidence: Evidence, said: SystemAnswers, same: Candidate | None) -> sections.System:
    """Return the line of what ships, with speed and size; where int8 differs from what was trained, with the figure of that."""
    decision = evidence.learned.decision
    model = load(evidence.bundle)
    alone = "real rows only" if evidence.learned.rows.examples else "descriptions of the labels only"
    what = f"{LEARNERS[(same or decision.shipped).learner].title}, {'with drafts' if decision.shipped.drafts else alone}"
    cut = "" if evidence.shrunk.outcome is None else f", form: {evidence.shrunk.name}"
    found = _system(
        evidence,
        f"shipped bundle ({'cascade' if model.cascade else model.manifest.last.spec.title})",
        f"{what}{cut}",
        said,
        SHIPPED,
    )
    trained = None if same is None else _system(evidence, "", "", said, str(same)).score
    if trained is not None and found.score is not None and trained.value != found.score.value:
        found = replace(found, detail=f"{found.detail}; before int8 {trained.percent()}")
    (rate,), size = speeds([model], evidence), size_of(evidence.bundle)
    return replace(found, shipped=True, texts_per_second=rate, size_mb=size)


def _system(evidence: Evidence, name: str, detail: str, said: SystemAnswers, key: str) -> sections.System:
    """Return a line of the table of results without speed and size, and without figures if the system was not asked."""
    fields = {shown: field for field, shown in sections.FIGURES.items()}
    kind, k = kind_of(evidence), len(evidence.task.labels)
    asked = said.answers.get(key, ())
    found = [kind.figures(said.truth, answers, k, said.groups, spread=said.spread) for answers in asked]
    figures: dict[str, Any] = {fields[same[0].name]: _mean(same) for same in zip(*found, strict=True)}
    return sections.System(name=name, detail=detail, **figures)


def _mean(repeats: Sequence[Metric]) -> Metric:
    """Return the mean of a figure over repeats on the same rows, which are no more rows: so is its interval."""
    value, low, high = (float(np.mean([getattr(one, part) for one in repeats])) for part in ("value", "low", "high"))
    return replace(repeats[0], value=value, low=low, high=high)


class SystemAnswers(NamedTuple):
    """The truth of rows, and what systems answered in each repeat, by name: no figure is shown of one that is not among them.

    `groups` [N] are of rows that copy each other; `spread` is by how much figures vary more than rows do.
    """

    truth: Array
    answers: Mapping[str, Sequence[Array]]
    groups: IntArray
    spread: float = 1.0

    @classmethod
    def of(cls, test: TestResult) -> SystemAnswers:
        """Return what was answered on test rows."""
        return cls(test.truth, {name: [answers] for name, answers in test.predicted.items()}, test.groups)


def said_of(evidence: Evidence) -> SystemAnswers | None:
    """Return what was answered on the new rows of the test file, or on the held-out rows, where `SHIPPED` may be missing."""
    if (test := evidence.measured) is not None:
        return SystemAnswers.of(test)
    held = evidence.learned.held
    if held is None:
        return None
    said = {str(name): held.answers_of(held.logits[name]) for name in held.logits}
    majority = held.kind.usual(held.truth, len(held.truth))
    if evidence.shrunk.logits is not None:
        said[SHIPPED] = held.answers_of(evidence.shrunk.logits)
    return SystemAnswers(held.truth, {MAJORITY: [majority], **said}, held.groups, held.spread)


def kind_of(evidence: Evidence) -> Kind:
    """Return how answers of the task are counted."""
    return KINDS[evidence.task.config.task]


def _beside() -> list[LearnerName]:
    """Return the learners that the table has whatever ships: baselines first, then what no bundle holds."""
    shown = [spec for spec in LEARNERS.values() if spec.always_shown]
    return [spec.name for spec in sorted(shown, key=lambda spec: (not spec.ships, not spec.small))]
