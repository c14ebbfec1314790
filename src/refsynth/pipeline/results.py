"""The report's table of results: every measured model once, and the one that ships with its speed and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from refsynth.bundle.model import load
from refsynth.compress.shrink import as_trained
from refsynth.core.files import size_of
from refsynth.core.learners import LEARNERS, LearnerName
from refsynth.core.types import Array, IntArray, Metric
from refsynth.evaluation import sections
from refsynth.evaluation.testfile import MAJORITY, SHIPPED, TestResult
from refsynth.learning.candidates import Candidate
from refsynth.pipeline.compression import speeds
from refsynth.pipeline.evidence import Evidence


def results_of(evidence: Evidence) -> sections.Results | None:
    """Return the table, or None if nothing was measured."""
    answers = answers_of(evidence)
    if answers is None:
        return None
    decision, kind, n = evidence.learned.decision, evidence.learned.rows.kind, len(answers.truth)

    def system(name: str, key: str, detail: str) -> sections.System:
        return _system(evidence, name, detail, answers, key)

    usual = "no span at all" if kind.words else f"the most frequent {'set of labels' if kind.several else 'label'}"
    systems = [replace(system("all O" if kind.words else "majority", MAJORITY, usual), usual=True)]
    same = _shipped_as(evidence)
    shown = [Candidate(name, False) for name in _always_shown() if name in answers.systems]
    systems += [system(LEARNERS[one.learner].title, str(one), "real rows only") for one in shown if one != same]
    if decision.real not in (same, *shown):
        systems.append(system("real rows only", str(decision.real), LEARNERS[decision.real.learner].title))
    if decision.mixed and decision.mixed != same:
        systems.append(system("real + synthetic", str(decision.mixed), LEARNERS[decision.mixed.learner].title))
    systems.append(_shipped(evidence, answers, same))
    test, overlap = evidence.task.test, evidence.overlap
    if evidence.measured is None or test is None:
        return sections.Results(systems=tuple(systems), source="cross-validation", n=n)
    if evidence.test is not None and overlap is not None and overlap.same:
        name, detail = f"the bundle, all {overlap.n:,} rows", f"{len(overlap.same):,} of them in train too"
        systems.insert(-1, _system(evidence, name, detail, SystemAnswers.of(evidence.test), SHIPPED))
    held, logits = evidence.learned.held, evidence.shrunk.logits
    crossed = None if held is None or logits is None else held.score_of(logits)
    return sections.Results(systems=tuple(systems), source="test file", n=n, file=test.name, crossed=crossed)


def _shipped_as(evidence: Evidence) -> Candidate | None:
    """Return the candidate that ships as it was trained, which gets no row of its own; None if a smaller form ships."""
    if evidence.tiers.bundle != evidence.tiers.main:
        return None
    return as_trained(evidence.shrunk.name, evidence.learned.decision.shipped)


def _shipped(evidence: Evidence, answers: SystemAnswers, same: Candidate | None) -> sections.System:
    """Return the row of what ships, with speed and size, and with the figure before int8 if that differs."""
    decision = evidence.learned.decision
    model = load(evidence.bundle)
    alone = "real rows only" if evidence.learned.rows.examples else "descriptions of the labels only"
    what = f"{LEARNERS[(same or decision.shipped).learner].title}, {'with drafts' if decision.shipped.drafts else alone}"
    form = "" if evidence.shrunk.outcome is None else f", form: {evidence.shrunk.name}"
    name = f"shipped bundle ({'cascade' if model.cascade else model.manifest.last.spec.title})"
    system = _system(evidence, name, f"{what}{form}", answers, SHIPPED)
    trained = None if same is None else _system(evidence, "", "", answers, str(same)).score
    if trained is not None and system.score is not None and trained.value != system.score.value:
        system = replace(system, detail=f"{system.detail}; before int8 {trained.percent()}")
    (rate,), size = speeds([model], evidence), size_of(evidence.bundle)
    return replace(system, shipped=True, texts_per_second=rate, size_mb=size)


def _system(evidence: Evidence, name: str, detail: str, answers: SystemAnswers, key: str) -> sections.System:
    """Return a row of the table without speed and size, and without figures if the system gave no answers."""
    fields = {shown: field for field, shown in sections.FIGURES.items()}
    kind, k = evidence.learned.rows.kind, len(evidence.task.labels)
    repeats = [kind.figures(answers.truth, own, k, answers.groups, spread=answers.spread) for own in answers.systems.get(key, ())]
    figures: dict[str, Any] = {fields[same[0].name]: _mean(same) for same in zip(*repeats, strict=True)}
    return sections.System(name=name, detail=detail, **figures)


def _mean(repeats: Sequence[Metric]) -> Metric:
    """Return the mean of a figure and of its interval's ends; repeats on the same rows do not make the interval narrower."""
    value, low, high = (float(np.mean([getattr(one, part) for one in repeats])) for part in ("value", "low", "high"))
    return replace(repeats[0], value=value, low=low, high=high)


class SystemAnswers(NamedTuple):
    """What was answered on N rows.

    Attributes:
        truth: the true answers [N].
        systems: the answers of each system in each repeat; a system that is missing was not measured.
        groups: numbers of the groups of rows that copy each other [N].
        spread: the factor by which figures vary more than independent rows would.
    """

    truth: Array
    systems: Mapping[str, Sequence[Array]]
    groups: IntArray
    spread: float = 1.0

    @classmethod
    def of(cls, test: TestResult) -> SystemAnswers:
        """Return the answers on test rows."""
        return cls(test.truth, {name: [answers] for name, answers in test.predicted.items()}, test.groups)


def answers_of(evidence: Evidence) -> SystemAnswers | None:
    """Return the answers on the new rows of the test file, or else on held-out rows, where `SHIPPED` may be missing."""
    if (test := evidence.measured) is not None:
        return SystemAnswers.of(test)
    held = evidence.learned.held
    if held is None:
        return None
    systems = {MAJORITY: [held.kind.usual(held.truth, len(held.truth))]}
    systems |= {str(name): held.answers_of(logits) for name, logits in held.logits.items()}
    if evidence.shrunk.logits is not None:
        systems[SHIPPED] = held.answers_of(evidence.shrunk.logits)
    return SystemAnswers(held.truth, systems, held.groups, held.spread)


def _always_shown() -> list[LearnerName]:
    """Return the learners that the table always shows: baselines first, then those that no bundle can hold."""
    shown = [spec for spec in LEARNERS.values() if spec.always_shown]
    return [spec.name for spec in sorted(shown, key=lambda spec: (not spec.ships, not spec.small))]
