"""What a run can show for itself: fills the report's tree from the finished run and writes it as HTML, Markdown and JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import refsynth
from refsynth.bundle.model import load
from refsynth.core.run import write_atomic
from refsynth.core.sections import LearnerName
from refsynth.core.types import IntArray
from refsynth.evaluation import sections
from refsynth.evaluation.report import Report, render_html, render_markdown, to_json
from refsynth.metrics import accuracy_interval, macro_f1_interval, paired_gain, softmax
from refsynth.pipeline.account import data_of, drafts_of, lineage_of
from refsynth.pipeline.candidates import Candidate
from refsynth.pipeline.compression import compression_of, size_of, speeds
from refsynth.pipeline.evaluate import MAJORITY, SHIPPED
from refsynth.pipeline.finished import Finished
from refsynth.pipeline.gate import HeldOut

NAMES: Mapping[LearnerName, str] = {
    "tfidf": "TF-IDF + LR",
    "frozen": "frozen encoder + LR",
    "contrastive": "contrastive",
    "finetune": "full fine-tuning",
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
}


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
    if finished.test is None and learned.held is None:
        absent |= {"results": "no test file and no held-out rows", "classes": "no test file and no held-out rows"}
    if _unmeasured(finished):
        why = "without a test file only the trained model was measured, not what ships of it: see Compression"
        absent |= {"classes": why, "calibration": why}
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
        classes=None if _unmeasured(finished) else _classes(finished),
        calibration=None if _unmeasured(finished) else _calibration(finished),
        drafts=drafts_of(finished) if learned.written.asked else None,
        data=data_of(finished),
        compression=compression_of(finished),
        lineage=lineage_of(finished),
        absent=absent | {"compression": "the results table has the size and the speed of the bundle"},
    )


def _results(finished: Finished) -> sections.Results | None:
    said = _said(finished)
    if said is None:
        return None
    truth, by_name = said
    decision, k = finished.learned.decision, len(finished.task.labels)

    def system(name: str, key: str, detail: str) -> sections.System:
        guess = by_name[key]
        right, balanced = accuracy_interval(truth, guess), macro_f1_interval(truth, guess, k)
        return sections.System(name=name, detail=detail, accuracy=right, macro_f1=balanced)

    systems = [system("majority", MAJORITY, "the most frequent label")]
    systems += [system(NAMES[name], name, "real rows") for name in ("tfidf", "frozen") if name in by_name]
    systems.append(system("real rows only", str(decision.real), NAMES[decision.real.learner]))
    if decision.mixed:
        systems.append(system("real + synthetic", str(decision.mixed), NAMES[decision.mixed.learner]))
    model = load(finished.bundle)
    form = model.manifest.kind if model.manifest.kind in ("static", "cascade") else "int8"
    cut = "" if finished.shrunk.outcome is None else f", form: {finished.shrunk.name}"
    shipped = system(f"shipped bundle ({form})", SHIPPED, f"{decision.shipped}{cut}")
    if _unmeasured(finished):
        shipped = replace(shipped, accuracy=None, macro_f1=None)
    (rate,), size = speeds([model], finished), size_of(finished.bundle)
    systems.append(replace(shipped, shipped=True, texts_per_second=rate, size_mb=size))
    test = finished.task.test
    if finished.test is not None and test is not None:
        return sections.Results(systems=tuple(systems), source="test file", n=len(truth), file=test.name)
    return sections.Results(systems=tuple(systems), source="cross-validation", n=len(truth))


def _said(finished: Finished) -> tuple[IntArray, dict[str, IntArray]] | None:
    """Return the truth and each system's classes, on the test file or else on the held-out rows."""
    if finished.test is not None:
        return finished.test.truth, dict(finished.test.predicted)
    held = finished.learned.held
    if held is None:
        return None
    said = {str(name): values[0].argmax(-1) for name, values in held.logits.items()}
    majority = int(np.bincount(held.truth).argmax())
    shipped = finished.shrunk.logits
    assert shipped is not None
    return held.truth, {MAJORITY: np.full(len(held.truth), majority), **said, SHIPPED: shipped[0].argmax(-1)}


def _unmeasured(finished: Finished) -> bool:
    """Return whether what ships was never asked about rows whose label is known."""
    return finished.test is None and finished.tiers.bundle != finished.tiers.main


def _gate(finished: Finished) -> sections.Gate | None:
    held, decision, config = finished.learned.held, finished.learned.decision, finished.task.config.gate
    if held is None:
        return None
    pairs = [(each, Candidate(each.learner, True)) for each in held.logits if not each.drafts]
    lines = [_comparison(held, plain, helped, NAMES[plain.learner]) for plain, helped in pairs if helped in held.logits]
    learner = NAMES[decision.shipped.learner]
    if decision.mixed and decision.mixed.learner != decision.real.learner:
        learner = f"{NAMES[decision.real.learner]} / {NAMES[decision.mixed.learner]} + drafts"
        lines.append(_comparison(held, decision.real, decision.mixed, learner))
    return sections.Gate(
        comparisons=tuple(lines),
        accepted=decision.shipped.drafts,
        learner=learner,
        reason=decision.reason,
        folds=config.folds,
        repeats=config.repeats,
    )


def _comparison(held: HeldOut, real: Candidate, mixed: Candidate, name: str) -> sections.Comparison:
    gain = paired_gain(held.correct(real), held.correct(mixed))
    return sections.Comparison(learner=name, real=held.accuracy(real), augmented=held.accuracy(mixed), gain=gain)


def _classes(finished: Finished) -> sections.Classes | None:
    said = _said(finished)
    if said is None:
        return None
    truth, by_name = said
    source: sections.Source = "cross-validation" if finished.test is None else "test file"
    return sections.Classes.of(finished.task.labels, truth, by_name[SHIPPED], source=source)


def _calibration(finished: Finished) -> sections.Calibration | None:
    held, calibrated = finished.learned.held, finished.calibrated
    if held is None or calibrated.threshold is None:
        return None
    measure = partial(sections.Calibration.of, threshold=calibrated.threshold, temperature=calibrated.temperature)
    if finished.test is not None:
        return measure(finished.test.truth, finished.test.probabilities, source="test file")
    assert finished.shrunk.logits is not None
    logits = finished.shrunk.logits[0]
    calm = softmax(logits / calibrated.temperature)
    return measure(held.truth, calm, source="cross-validation", uncalibrated=softmax(logits))
