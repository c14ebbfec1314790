"""What a run can show for itself: fills the report's tree from the finished run and writes it as HTML, Markdown and JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsynth.bundle.manifest import read_manifest
from refsynth.bundle.none import none_sentence
from refsynth.core.earlier import archive_report
from refsynth.core.learners import LEARNERS
from refsynth.core.run import write_atomic
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
from refsynth.pipeline.results import kind_of, results_of, said_of

FILES = ("report.html", "report.md", "report.json", HELD_OUT)
"""What a finished run says of its model, in its folder."""


class WrittenReport(NamedTuple):
    """A report as values and as files, and the files of an earlier one that it did not replace."""

    report: Report
    paths: Paths
    earlier: tuple[Path, ...] = ()


def write_report(evidence: Evidence) -> WrittenReport:
    """Write report.html, report.md, report.json and held_out.csv into the run folder; another run's report there is kept."""
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
    """Fill the tree; `rows` are the held-out ones, the wrong ones first."""
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
    """Return why sections are left out, by their names."""
    learned, said = evidence.learned, said_of(evidence)
    absent = {} if said is None else {"compression": "the results table has the size and the speed of the bundle"}
    if learned.held is None:
        absent |= {"gate": learned.decision.reason, "calibration": learned.decision.reason}
    tested = "no test file" if evidence.test is None else "no new row in the test file"
    if said is None:
        absent |= dict.fromkeys(("results", "classes"), f"{tested} and no held-out rows")
    elif SHIPPED not in said.answers:
        why = f"with {tested} only the trained model was measured, not what ships of it: see Compression"
        absent |= {"classes": why, "calibration": why}
    elif learned.held is not None and evidence.calibrated.crossed is None:
        absent["calibration"] = (
            "of every held-out row the label is one that no row of another fold has, or it was not read so far"
        )
    return absent


def _gate(evidence: Evidence) -> sections.Gate | None:
    held, decision, config = evidence.learned.held, evidence.learned.decision, evidence.task.config.gate
    if held is None:
        return None
    plain = [each for each in held.logits if not each.drafts]
    lines = [_comparison(held, each, Candidate(each.learner, True), LEARNERS[each.learner].title) for each in plain]
    return sections.Gate(
        comparisons=tuple(lines),
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
    """Return why the learner that measured best, each with drafts or without as it would ship, is not the one that ships."""
    beside = [each for each in held.logits if not LEARNERS[each.learner].ships and not each.drafts]
    best = max([*decision.competed, *beside], key=lambda each: held.score(each).value)
    name, measured, chosen = LEARNERS[best.learner].title, held.score(best).value, held.score(decision.shipped).value
    if measured <= chosen:
        return ""
    if not LEARNERS[best.learner].ships:
        return f"{name} measured better ({measured:.1%} against {chosen:.1%}), but no bundle can hold it"
    better = f"{name} measured better ({measured:.1%} against {chosen:.1%})"
    return f"{better}, but not by the {LEARNER_DOUBT:g} standard errors by which a less preferred learner has to win"


def _comparison(held: HeldOut, real: Candidate, mixed: Candidate, name: str) -> sections.Comparison:
    if mixed not in held.logits:
        return sections.Comparison(learner=name, real=held.score(real))
    gain = held.gain(held.scores(real), held.scores(mixed))
    return sections.Comparison(learner=name, real=held.score(real), augmented=held.score(mixed), gain=gain)


def _classes(evidence: Evidence) -> sections.Classes | None:
    said = said_of(evidence)
    if said is None or SHIPPED not in said.answers:
        return None
    truth, shipped = said.truth, said.answers[SHIPPED][0]
    source: sections.Source = "cross-validation" if evidence.measured is None else "test file"
    labels = evidence.task.labels
    if kind_of(evidence).spans:
        return sections.Classes.of_table(
            labels, kind_of(evidence).table(truth, shipped, len(labels)), source=source, n=len(truth)
        )
    if kind_of(evidence).several:
        return sections.Classes.of_marks(labels, truth, shipped, thresholds=evidence.calibrated.cuts, source=source)
    return sections.Classes.of(labels, truth, shipped, source=source)


def _calibration(evidence: Evidence) -> CalibrationReport | None:
    held, calibrated, test = evidence.learned.held, evidence.calibrated, evidence.measured
    none = none_sentence(read_manifest(evidence.bundle))
    if held is None or calibrated.threshold is None:
        return None
    chosen = chosen_of(evidence) | {"left_out": calibrated.left_out, "none": none}
    if test is not None:
        chosen |= {"unsure": test.unsure, "source": "test file", "groups": test.groups}
        return _trust(held.kind, test.truth, test.probabilities, test.predicted[SHIPPED], **chosen)
    shipped, crossed = evidence.shrunk.logits, calibrated.crossed
    if shipped is None or crossed is None:
        return None
    chosen |= {"source": "cross-validation", "uncalibrated": held.kind.probabilities(shipped[0][crossed.rows])}
    chosen |= {"unsure": crossed.unsure, "groups": held.groups[crossed.rows]}
    return _trust(held.kind, held.truth[crossed.rows], crossed.probabilities, crossed.answers, **chosen)


def _trust(kind: Kind, truth: Array, said: Array, answers: Array, **chosen: Any) -> CalibrationReport | None:
    if not (kind.several or kind.spans):
        return CalibrationReport.of(truth, said, **chosen)
    right, confidence = kind.right(truth, answers), kind.confidence(said, answers)
    by_row = np.full(len(truth), truth.shape[1]) if kind.several else np.array([len(split_spans(each)) for each in answers])
    if kind.spans:
        loud = chosen.pop("uncalibrated", None)
        chosen |= {"over": "spans", "uncalibrated": None if loud is None else span_confidences(loud, answers)}
        truth, said = spans_right(truth, answers), span_confidences(said, answers)
        if not len(said):
            return None
    return CalibrationReport.of_marks(truth, said, right=right, confidence=confidence, by_row=by_row, **chosen)
