"""Builds the report from the evidence of a run and writes it as HTML, Markdown and JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsynth.bundle.manifest import read_manifest
from refsynth.bundle.none import none_sentence
from refsynth.core.earlier import archive_report
from refsynth.core.files import write_atomic
from refsynth.core.learners import LEARNERS
from refsynth.core.spans import split_spans
from refsynth.core.types import Array
from refsynth.core.version import __version__
from refsynth.evaluation import sections
from refsynth.evaluation.confidence import CalibrationReport
from refsynth.evaluation.heldout import FILE as HELD_OUT
from refsynth.evaluation.heldout import held_rows, write_rows
from refsynth.evaluation.mistakes import HeldRow, Mistakes
from refsynth.evaluation.report import Report, render_html, render_markdown, to_json
from refsynth.evaluation.testfile import SHIPPED
from refsynth.kinds import Kind
from refsynth.kinds.spans import span_confidences, spans_right
from refsynth.learning.candidates import Candidate
from refsynth.learning.gate import FALSE_ACCEPTS, LEARNER_DOUBT, Decision
from refsynth.learning.held import HeldOut
from refsynth.pipeline.account import data_of, drafting_of, drafts_of, lineage_of
from refsynth.pipeline.compression import chosen_of, compression_of
from refsynth.pipeline.evidence import Evidence, Paths
from refsynth.pipeline.results import answers_of, results_of

FILES = ("report.html", "report.md", "report.json", HELD_OUT)
"""The files in a run folder that describe its model."""


class WrittenReport(NamedTuple):
    """A report as values and as files, and the kept files of an earlier report."""

    report: Report
    paths: Paths
    earlier: tuple[Path, ...] = ()


def write_report(evidence: Evidence) -> WrittenReport:
    """Write report.html, report.md, report.json and held_out.csv into the run folder; keep another run's report there."""
    learned = evidence.learned
    rows = held_rows(learned.rows, evidence.task.labels, learned.held, evidence.shrunk.logits, evidence.calibrated)
    report, folder = build_report(evidence, rows), evidence.folder.path
    paths = Paths(*(folder / name for name in FILES[:3]))
    texts = (render_html(report), render_markdown(report), to_json(report))
    earlier = archive_report(folder, FILES, unless=texts[-1])
    for path, text in zip(paths, texts, strict=True):
        write_atomic(path, text.encode())
    write_rows(folder / HELD_OUT, rows)
    return WrittenReport(report, paths, earlier)


def build_report(evidence: Evidence, rows: Sequence[HeldRow] | None) -> Report:
    """Return the report; `rows` are the held-out rows, wrong predictions first."""
    task, learned = evidence.task, evidence.learned
    return Report(
        title=evidence.folder.path.name,
        task=task.config.task,
        language=learned.rows.language,
        date=time.strftime("%Y-%m-%d"),
        version=__version__,
        labels=dict(task.descriptions),
        results=results_of(evidence),
        gate=_gate(evidence),
        classes=_classes(evidence),
        calibration=_calibration(evidence),
        drafts=drafts_of(evidence) if learned.written.asked else None,
        data=data_of(evidence),
        compression=compression_of(evidence),
        lineage=lineage_of(evidence),
        overlap=evidence.overlap,
        drafting=drafting_of(evidence),
        mistakes=None if rows is None else Mistakes.of(rows),
        absent=_absent(evidence),
    )


def _absent(evidence: Evidence) -> dict[str, str]:
    """Return by name why sections are left out."""
    learned, answers = evidence.learned, answers_of(evidence)
    absent = {} if answers is None else {"compression": "the results table has the size and the speed of the bundle"}
    if learned.held is None:
        absent |= {"gate": learned.decision.reason, "calibration": learned.decision.reason}
    tested = "no test file" if evidence.test is None else "no new row in the test file"
    if answers is None:
        absent |= dict.fromkeys(("results", "classes"), f"{tested} and no held-out rows")
    elif SHIPPED not in answers.systems:
        why = f"with {tested} only the trained model was measured, not the form that ships: see Compression"
        absent |= {"classes": why, "calibration": why}
    elif learned.held is not None and evidence.calibrated.crossed is None:
        absent["calibration"] = "each held-out row has a label that no row of another fold has, or was not read to the end"
    return absent


def _gate(evidence: Evidence) -> sections.Gate | None:
    held, decision, config = evidence.learned.held, evidence.learned.decision, evidence.task.config.gate
    if held is None:
        return None
    return sections.Gate(
        comparisons=tuple(_comparison(held, candidate) for candidate in held.logits if not candidate.drafts),
        accepted=decision.shipped.drafts,
        learner=LEARNERS[decision.shipped.learner].title,
        reason=decision.reason,
        chance=decision.chance,
        false_accepts=FALSE_ACCEPTS,
        passed_over=_passed_over(held, decision),
        folds=config.folds,
        repeats=config.repeats,
        measure=held.kind.measure,
    )


def _passed_over(held: HeldOut, decision: Decision) -> str:
    """Return why the learner with the best score, with or without drafts as it would ship, is not the one that ships."""
    unshippable = [each for each in held.logits if not LEARNERS[each.learner].ships and not each.drafts]
    best = max([*decision.competed, *unshippable], key=lambda each: held.score(each).value)
    spec, score, shipped = LEARNERS[best.learner], held.score(best).value, held.score(decision.shipped).value
    if score <= shipped:
        return ""
    better = f"{spec.title} measured better ({score:.1%} against {shipped:.1%})"
    if not spec.ships:
        return f"{better}, but no bundle can hold it"
    return f"{better}, but not by the {LEARNER_DOUBT:g} standard errors by which a less preferred learner has to win"


def _comparison(held: HeldOut, real: Candidate) -> sections.Comparison:
    name, mixed = LEARNERS[real.learner].title, Candidate(real.learner, True)
    if mixed not in held.logits:
        return sections.Comparison(learner=name, real=held.score(real))
    gain = held.gain(held.scores(real), held.scores(mixed))
    return sections.Comparison(learner=name, real=held.score(real), augmented=held.score(mixed), gain=gain)


def _classes(evidence: Evidence) -> sections.Classes | None:
    answers = answers_of(evidence)
    if answers is None or SHIPPED not in answers.systems:
        return None
    truth, shipped = answers.truth, answers.systems[SHIPPED][0]
    source: sections.Source = "cross-validation" if evidence.measured is None else "test file"
    labels, kind = evidence.task.labels, evidence.learned.rows.kind
    if kind.words:
        return sections.Classes.of_table(labels, kind.table(truth, shipped, len(labels)), source=source, n=len(truth))
    if kind.several:
        return sections.Classes.of_marks(labels, truth, shipped, thresholds=evidence.calibrated.cuts, source=source)
    return sections.Classes.of(labels, truth, shipped, source=source)


def _calibration(evidence: Evidence) -> CalibrationReport | None:
    held, calibrated, test = evidence.learned.held, evidence.calibrated, evidence.measured
    if held is None or calibrated.threshold is None:
        return None
    none = none_sentence(read_manifest(evidence.bundle))
    chosen = chosen_of(evidence) | {"left_out": calibrated.left_out, "none": none}
    if test is not None:
        chosen |= {"unsure": test.unsure, "source": "test file", "groups": test.groups}
        return _calibration_of(held.kind, test.truth, test.probabilities, test.predicted[SHIPPED], **chosen)
    shipped, crossed = evidence.shrunk.logits, calibrated.crossed
    if shipped is None or crossed is None:
        return None
    chosen |= {"source": "cross-validation", "uncalibrated": held.kind.probabilities(shipped[0][crossed.rows])}
    chosen |= {"unsure": crossed.unsure, "groups": held.groups[crossed.rows]}
    return _calibration_of(held.kind, held.truth[crossed.rows], crossed.probabilities, crossed.answers, **chosen)


def _calibration_of(kind: Kind, truth: Array, probabilities: Array, answers: Array, **chosen: Any) -> CalibrationReport | None:
    if not (kind.several or kind.words):
        return CalibrationReport.of(truth, probabilities, **chosen)
    right, confidence = kind.right(truth, answers), kind.confidence(probabilities, answers)
    by_row = np.full(len(truth), truth.shape[1]) if kind.several else np.array([len(split_spans(each)) for each in answers])
    if kind.words:
        uncalibrated = chosen.pop("uncalibrated", None)
        chosen["over"] = "spans"
        chosen["uncalibrated"] = None if uncalibrated is None else span_confidences(uncalibrated, answers)
        truth, probabilities = spans_right(truth, answers), span_confidences(probabilities, answers)
        if not len(probabilities):
            return None
    return CalibrationReport.of_marks(truth, probabilities, right=right, confidence=confidence, by_row=by_row, **chosen)
