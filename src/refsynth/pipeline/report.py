"""What a run can show for itself: fills the report's tree from the finished run and writes it as HTML, Markdown and JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import refsynth
from refsynth.bundle.model import load
from refsynth.core.run import write_atomic
from refsynth.core.sections import LearnerName
from refsynth.core.spans import split_spans
from refsynth.core.types import Array, IntArray, Metric
from refsynth.evaluation import sections
from refsynth.evaluation.confidence import Calibration
from refsynth.evaluation.report import Report, render_html, render_markdown, to_json
from refsynth.kinds import KINDS, Kind
from refsynth.kinds.spans import span_confidences, spans_right
from refsynth.pipeline.account import data_of, drafts_of, lineage_of
from refsynth.pipeline.candidates import COMPARED, Candidate
from refsynth.pipeline.compression import chosen_of, compression_of, size_of, speeds
from refsynth.pipeline.evaluate import MAJORITY, SHIPPED, TestResult
from refsynth.pipeline.finished import Finished
from refsynth.pipeline.gate import FALSE_ACCEPTS, LEARNER_DOUBT, Decision
from refsynth.pipeline.held import HeldOut

NAMES: Mapping[LearnerName, str] = {
    "tfidf": "TF-IDF + LR",
    "frozen": "frozen encoder + LR",
    "contrastive": "contrastive",
    "finetune": "full fine-tuning",
    "soup": "model soup",
    "head": "frozen encoder + head",
    "bitfit": "BitFit",
    "lora": "LoRA",
    "adalora": "AdaLoRA",
    "ia3": "IA3",
    "prefix_tuning": "prefix tuning",
    "p_tuning": "P-tuning",
    "prompt_tuning": "prompt tuning",
    "houlsby": "bottleneck adapters",
    "causal_lora": "reference + LoRA",
    "average": "average of all learners",
    "stacking": "stack of all learners",
    "distilled": "student of all learners",
    "crf": "CRF",
    "prompt": "reference, prompted",
}

FORMS: Mapping[str, str] = {
    "static": "static",
    "cascade": "cascade",
    "tagger_cascade": "cascade",
    "crf": "CRF",
    "tfidf": "TF-IDF",
}
"""What ships, by the kind of its bundle, where it is not an int8 encoder."""

BESIDE: tuple[LearnerName, ...] = ("tfidf", "crf", "frozen", "average", "stacking", "prompt")
"""Learners that the table of results has whatever ships."""


class Paths(NamedTuple):
    """The three forms of a report."""

    html: Path
    markdown: Path
    json: Path


def write_report(finished: Finished) -> tuple[Report, Paths]:
    """Write report.html, report.md and report.json into the run folder."""
    report = build_report(finished)
    folder = finished.folder.path
    paths = Paths(folder / "report.html", folder / "report.md", folder / "report.json")
    for path, text in zip(paths, (render_html(report), render_markdown(report), to_json(report)), strict=True):
        write_atomic(path, text.encode())
    return report, paths


def build_report(finished: Finished) -> Report:
    """Fill the tree."""
    task, learned = finished.task, finished.learned
    absent = {}
    if learned.held is None:
        absent = {"gate": learned.decision.reason, "calibration": learned.decision.reason}
    tested = "no test file" if finished.test is None else "no new row in the test file"
    if finished.measured is None and learned.held is None:
        absent |= dict.fromkeys(("results", "classes"), f"{tested} and no held-out rows")
    said = _said(finished)
    if said is not None and SHIPPED not in said.answers:
        why = f"with {tested} only the trained model was measured, not what ships of it: see Compression"
        absent |= {"classes": why, "calibration": why}
    elif said is not None and learned.held is not None and finished.calibrated.crossed is None:
        absent["calibration"] = (
            "of every held-out row the label is one that no row of another fold has, or it was not read so far"
        )
    if not learned.written.asked:
        absent["drafts"] = "synthesis is turned off (synthesis.drafts: 0)"
    return Report(
        title=finished.folder.path.name,
        task=task.config.task,
        language=learned.rows.language,
        date=time.strftime("%Y-%m-%d"),
        version=refsynth.__version__,
        labels=dict(task.descriptions),
        results=_results(finished),
        gate=_gate(finished),
        classes=_classes(finished),
        calibration=_calibration(finished),
        drafts=drafts_of(finished) if learned.written.asked else None,
        data=data_of(finished),
        compression=compression_of(finished),
        lineage=lineage_of(finished),
        overlap=finished.overlap,
        absent=absent | {"compression": "the results table has the size and the speed of the bundle"},
    )


def _results(finished: Finished) -> sections.Results | None:
    said = _said(finished)
    if said is None:
        return None
    decision, kind, n = finished.learned.decision, _kind(finished), len(said.truth)

    def system(name: str, key: str, detail: str) -> sections.System:
        return _system(finished, name, detail, said, key)

    usual = "no span at all" if kind.spans else f"the most frequent {'set of labels' if kind.several else 'label'}"
    systems = [system("all O" if kind.spans else "majority", MAJORITY, usual)]
    systems += [system(NAMES[name], name, "real rows") for name in BESIDE if name in said.answers]
    systems.append(system("real rows only", str(decision.real), NAMES[decision.real.learner]))
    if decision.mixed:
        systems.append(system("real + synthetic", str(decision.mixed), NAMES[decision.mixed.learner]))
    model = load(finished.bundle)
    form = FORMS.get(model.manifest.kind, "int8")
    cut = "" if finished.shrunk.outcome is None else f", form: {finished.shrunk.name}"
    shipped = system(f"shipped bundle ({form})", SHIPPED, f"{decision.shipped}{cut}")
    (rate,), size = speeds([model], finished), size_of(finished.bundle)
    systems.append(replace(shipped, shipped=True, texts_per_second=rate, size_mb=size))
    test, overlap = finished.task.test, finished.overlap
    if finished.measured is None or test is None:
        return sections.Results(systems=tuple(systems), source="cross-validation", n=n)
    if finished.test is not None and overlap is not None and overlap.same:
        name, detail = f"the bundle, all {overlap.n:,} rows", f"{len(overlap.same):,} of them in train too"
        systems.insert(-1, _system(finished, name, detail, _Said.of(finished.test), SHIPPED))
    return sections.Results(systems=tuple(systems), source="test file", n=n, file=test.name)


def _system(finished: Finished, name: str, detail: str, said: _Said, key: str) -> sections.System:
    """Return a line of the table of results without speed and size, and without figures if the system was not asked."""
    fields = {shown: field for field, shown in sections.FIGURES.items()}
    kind, k = _kind(finished), len(finished.task.labels)
    asked = said.answers.get(key, ())
    found = [kind.figures(said.truth, answers, k, said.groups, spread=said.spread) for answers in asked]
    figures: dict[str, Any] = {fields[same[0].name]: _mean(same) for same in zip(*found, strict=True)}
    return sections.System(name=name, detail=detail, **figures)


def _mean(repeats: Sequence[Metric]) -> Metric:
    """Return the mean of a figure over repeats on the same rows, which are no more rows: so is its interval."""
    value, low, high = (float(np.mean([getattr(one, part) for one in repeats])) for part in ("value", "low", "high"))
    return replace(repeats[0], value=value, low=low, high=high)


class _Said(NamedTuple):
    """The truth of rows, and what systems answered in each repeat, by name: no figure is shown of one that is not among them.

    `groups` [N] are of rows that copy each other; `spread` is by how much figures vary more than rows do.
    """

    truth: Array
    answers: Mapping[str, Sequence[Array]]
    groups: IntArray
    spread: float = 1.0

    @classmethod
    def of(cls, test: TestResult) -> _Said:
        """Return what was answered on test rows."""
        return cls(test.truth, {name: [answers] for name, answers in test.predicted.items()}, test.groups)


def _said(finished: Finished) -> _Said | None:
    """Return what was answered on the new rows of the test file, or on the held-out rows, where `SHIPPED` may be missing."""
    if (test := finished.measured) is not None:
        return _Said.of(test)
    held = finished.learned.held
    if held is None:
        return None
    said = {str(name): held.answers_of(held.logits[name]) for name in held.logits}
    majority = held.kind.usual(held.truth, len(held.truth))
    if finished.shrunk.logits is not None:
        said[SHIPPED] = held.answers_of(finished.shrunk.logits)
    return _Said(held.truth, {MAJORITY: [majority], **said}, held.groups, held.spread)


def _kind(finished: Finished) -> Kind:
    return KINDS[finished.task.config.task]


def _gate(finished: Finished) -> sections.Gate | None:
    held, decision, config = finished.learned.held, finished.learned.decision, finished.task.config.gate
    if held is None:
        return None
    plain = [each for each in held.logits if not each.drafts]
    lines = [_comparison(held, each, Candidate(each.learner, True), NAMES[each.learner]) for each in plain]
    return sections.Gate(
        comparisons=tuple(lines),
        accepted=decision.shipped.drafts,
        learner=NAMES[decision.shipped.learner],
        reason=decision.reason,
        chance=decision.chance,
        false_accepts=FALSE_ACCEPTS,
        passed_over=_passed_over(held, decision),
        folds=config.folds,
        repeats=config.repeats,
        measure=held.kind.measure,
    )


def _passed_over(held: HeldOut, decision: Decision) -> str:
    """Return why the learner that measured best, each with drafts or without as it would ship, is not the one that ships."""
    beside = [each for each in held.logits if each.learner in COMPARED and not each.drafts]
    best = max([*decision.competed, *beside], key=lambda each: held.score(each).value)
    name, measured, chosen = NAMES[best.learner], held.score(best).value, held.score(decision.shipped).value
    if measured <= chosen:
        return ""
    if best.learner in COMPARED:
        return f"{name} measured better ({measured:.1%} against {chosen:.1%}), but no bundle can hold it"
    better = f"{name} measured better ({measured:.1%} against {chosen:.1%})"
    return f"{better}, but not by the {LEARNER_DOUBT:g} standard errors by which a less preferred learner has to win"


def _comparison(held: HeldOut, real: Candidate, mixed: Candidate, name: str) -> sections.Comparison:
    if mixed not in held.logits:
        return sections.Comparison(learner=name, real=held.score(real))
    gain = held.gain(held.scores(real), held.scores(mixed))
    return sections.Comparison(learner=name, real=held.score(real), augmented=held.score(mixed), gain=gain)


def _classes(finished: Finished) -> sections.Classes | None:
    said = _said(finished)
    if said is None or SHIPPED not in said.answers:
        return None
    truth, shipped = said.truth, said.answers[SHIPPED][0]
    source: sections.Source = "cross-validation" if finished.measured is None else "test file"
    labels = finished.task.labels
    if _kind(finished).spans:
        return sections.Classes.of_table(labels, _kind(finished).table(truth, shipped, len(labels)), source=source, n=len(truth))
    if _kind(finished).several:
        return sections.Classes.of_marks(labels, truth, shipped, thresholds=finished.calibrated.cuts, source=source)
    return sections.Classes.of(labels, truth, shipped, source=source)


def _calibration(finished: Finished) -> Calibration | None:
    held, calibrated, test = finished.learned.held, finished.calibrated, finished.measured
    if held is None or calibrated.threshold is None:
        return None
    chosen = chosen_of(finished) | {"left_out": calibrated.left_out}
    if test is not None:
        chosen |= {"unsure": test.unsure, "source": "test file", "groups": test.groups}
        return _trust(held.kind, test.truth, test.probabilities, test.predicted[SHIPPED], **chosen)
    shipped, crossed = finished.shrunk.logits, calibrated.crossed
    if shipped is None or crossed is None:
        return None
    chosen |= {"source": "cross-validation", "uncalibrated": held.kind.probabilities(shipped[0][crossed.rows])}
    chosen |= {"unsure": crossed.unsure, "groups": held.groups[crossed.rows]}
    return _trust(held.kind, held.truth[crossed.rows], crossed.probabilities, crossed.answers, **chosen)


def _trust(kind: Kind, truth: Array, said: Array, answers: Array, **chosen: Any) -> Calibration | None:
    if not (kind.several or kind.spans):
        return Calibration.of(truth, said, **chosen)
    right, confidence = kind.right(truth, answers), kind.confidence(said, answers)
    by_row = np.full(len(truth), truth.shape[1]) if kind.several else np.array([len(split_spans(each)) for each in answers])
    if kind.spans:
        loud = chosen.pop("uncalibrated", None)
        chosen |= {"over": "spans", "uncalibrated": None if loud is None else span_confidences(loud, answers)}
        truth, said = spans_right(truth, answers), span_confidences(said, answers)
        if not len(said):
            return None
    return Calibration.of_marks(truth, said, right=right, confidence=confidence, by_row=by_row, **chosen)
