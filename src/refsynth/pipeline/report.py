"""What a run can show for itself: fills the report's tree from the finished run and writes it as HTML, Markdown and JSON."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import refsynth
from refsynth.bundle.model import load
from refsynth.core.run import file_digest, read_jsonl, seconds_of, write_atomic
from refsynth.core.types import Draft, FloatArray, IntArray
from refsynth.evaluation import sections
from refsynth.evaluation.advice import verdict
from refsynth.evaluation.report import Report, render_html, render_markdown, to_json
from refsynth.metrics import accuracy_interval, bootstrap, macro_f1_interval, softmax
from refsynth.pipeline.candidates import Candidate
from refsynth.pipeline.evaluate import MAJORITY, SHIPPED
from refsynth.pipeline.gate import HeldOut
from refsynth.pipeline.steps import Finished
from refsynth.quality.diversity import diversity
from refsynth.quality.filter import kept

SHOWN = 6
TIMED = 128

NAMES = {"tfidf": "TF-IDF + LR", "frozen": "frozen encoder + LR", "contrastive": "contrastive", "finetune": "full fine-tuning"}
PACKAGES = ("numpy", "onnxruntime", "tokenizers", "torch", "transformers", "scikit-learn", "ctranslate2")


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


def summary(finished: Finished, report: Report, paths: Paths) -> dict[str, Any]:
    """Return the run's outcome as JSON-ready values."""
    systems = [asdict(system) for system in report.results.systems] if report.results else []
    return {
        "run": str(finished.folder.path),
        "bundle": str(finished.bundle),
        "report": str(paths.html),
        "verdict": verdict(report),
        "shipped": str(finished.learned.decision.shipped),
        "gain": None if finished.learned.decision.gain is None else asdict(finished.learned.decision.gain),
        "systems": systems,
    }


def build_report(finished: Finished) -> Report:
    """Fill the tree."""
    task, learned = finished.task, finished.learned
    absent = {}
    if learned.held is None:
        absent = {"gate": learned.decision.reason, "calibration": learned.decision.reason}
    if finished.test is None and learned.held is None:
        absent |= {"results": "no test file and no held-out rows", "classes": "no test file and no held-out rows"}
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
        drafts=_drafts(finished) if learned.written.asked else None,
        data=_data(finished),
        compression=None,
        lineage=_lineage(finished),
        absent=absent | {"compression": "the results table has the size and the speed of the bundle"},
    )


def _results(finished: Finished) -> sections.Results | None:
    test, held = finished.test, finished.learned.held
    decision = finished.learned.decision
    said = _said(finished)
    if said is None:
        return None
    truth, by_name = said
    k = len(finished.task.labels)

    def system(name: str, key: str, detail: str, *, shipped: bool = False) -> sections.System:
        guess = by_name[key]
        speed, size = _speed(finished, key)
        figures = accuracy_interval(truth, guess), macro_f1_interval(truth, guess, k)
        return sections.System(
            name=name,
            detail=detail,
            accuracy=figures[0],
            macro_f1=figures[1],
            texts_per_second=speed,
            size_mb=size,
            shipped=shipped,
        )

    systems = [system("majority", MAJORITY, "the most frequent label")]
    systems += [system(NAMES[name], name, "real rows") for name in ("tfidf", "frozen") if name in by_name]
    systems.append(system("real rows only", str(decision.real), NAMES[decision.real.learner]))
    if decision.mixed:
        systems.append(system("real + synthetic", str(decision.mixed), NAMES[decision.mixed.learner]))
    if test is not None:
        systems.append(system("shipped bundle (int8)", SHIPPED, str(decision.shipped), shipped=True))
        return sections.Results(
            systems=tuple(systems), source="test file", n=len(truth), file=finished.task.test.name if finished.task.test else ""
        )
    assert held is not None
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
    return held.truth, {MAJORITY: np.full(len(held.truth), majority), **said}


def _speed(finished: Finished, key: str) -> tuple[float | None, float | None]:
    """Return texts per second on a batch of the run's own texts, and MB; timed once a run, in speed.json."""
    if key == SHIPPED:
        model = load(finished.bundle)
        size = sum(path.stat().st_size for path in finished.bundle.iterdir()) / 1e6
        return _timed(model.logits, finished), size
    return None, None


def _timed(predict: Callable[[Sequence[str]], FloatArray], finished: Finished) -> float:
    texts = [example.text for example in (*finished.learned.final.real, *kept(finished.learned.final.drafts))][:TIMED]
    predict(texts[:8])
    started = time.perf_counter()
    predict(texts)
    return len(texts) / (time.perf_counter() - started)


def _gate(finished: Finished) -> sections.Gate | None:
    held, decision = finished.learned.held, finished.learned.decision
    if held is None:
        return None
    lines = []
    for candidate in held.logits:
        helped = Candidate(candidate.learner, True)
        if not candidate.drafts and helped in held.logits:
            lines.append(_comparison(held, candidate, helped, NAMES[candidate.learner]))
    if decision.mixed and decision.mixed.learner != decision.real.learner:
        lines.append(
            _comparison(held, decision.real, decision.mixed, f"{NAMES[decision.real.learner]} / {NAMES[decision.mixed.learner]}")
        )
    learner = (
        lines[-1].learner
        if decision.mixed and decision.mixed.learner != decision.real.learner
        else NAMES[decision.shipped.learner]
    )
    config = finished.task.config.gate
    return sections.Gate(
        comparisons=tuple(lines),
        accepted=decision.shipped.drafts,
        learner=learner,
        reason=decision.reason,
        folds=config.folds,
        repeats=config.repeats,
    )


def _comparison(held: HeldOut, real: Candidate, mixed: Candidate, name: str) -> sections.Comparison:
    from refsynth.metrics import paired_gain

    gain = paired_gain(held.correct(real), held.correct(mixed))
    return sections.Comparison(learner=name, real=held.accuracy(real), augmented=held.accuracy(mixed), gain=gain)


def _classes(finished: Finished) -> sections.Classes | None:
    said = _said(finished)
    if said is None:
        return None
    truth, by_name = said
    if finished.test is not None:
        return sections.Classes.of(finished.task.labels, truth, by_name[SHIPPED], source="test file")
    return sections.Classes.of(
        finished.task.labels, truth, by_name[str(finished.learned.decision.shipped)], source="cross-validation"
    )


def _calibration(finished: Finished) -> sections.Calibration | None:
    held, calibrated = finished.learned.held, finished.calibrated
    if held is None or calibrated.threshold is None:
        return None
    common = {"threshold": calibrated.threshold, "temperature": calibrated.temperature}
    if finished.test is not None:
        return sections.Calibration.of(finished.test.truth, finished.test.probabilities, source="test file", **common)
    logits = held.logits[finished.learned.decision.shipped][0]
    return sections.Calibration.of(
        held.truth,
        softmax(logits / calibrated.temperature),
        source="cross-validation",
        uncalibrated=softmax(logits),
        **common,
    )


def _drafts(finished: Finished) -> sections.Drafts:
    learned = finished.learned
    final = learned.final
    chosen, dropped = _split(final.drafts)
    reasons = Counter(draft.dropped for draft in dropped if draft.dropped) + Counter(learned.written.rejected)
    counts = Counter(draft.example.label for draft in chosen)
    asked = Counter(draft.label for draft in learned.written.drafts)
    ranked = sorted(chosen, key=lambda draft: -draft.scores.get("agreement", 0.0))
    judged = [draft for draft in final.drafts if "agreement" in draft.scores]
    agrees = np.array([draft.scores["agreement"] >= 0.5 for draft in judged], float)
    named = (("kept drafts", [d.example.text for d in chosen]), ("seed rows", [e.text for e in learned.rows.examples]))
    return sections.Drafts(
        reference=learned.written.reference,
        asked=learned.written.asked,
        parsed=len(learned.written.drafts),
        kept=len(chosen),
        dropped=dict(reasons),
        seconds=seconds_of(read_jsonl(finished.folder.path / "events.jsonl")).get("drafts"),
        per_class=tuple(
            sections.DraftCount(label=label, asked=asked[label], kept=counts[label]) for label in finished.task.labels
        ),
        diversity=tuple(sections.Diversity(name=name, **diversity(texts)._asdict()) for name, texts in named if len(texts) > 1),
        agreement=bootstrap("agreement", lambda rows: float(agrees[rows].mean()), len(agrees)) if len(agrees) else None,
        scores=tuple(_histogram(final.drafts, scorer) for scorer in ("agreement",) if judged),
        best=tuple(ranked[:SHOWN]),
        worst=tuple(ranked[-SHOWN:]),
        rejected=tuple(_one_of_each(dropped)),
        seeds={example.id: example.text for example in learned.rows.examples},
    )


def _split(drafts: Sequence[Draft]) -> tuple[list[Draft], list[Draft]]:
    return [d for d in drafts if d.dropped is None], [d for d in drafts if d.dropped is not None]


def _histogram(drafts: Sequence[Draft], scorer: str) -> sections.ScoreHistogram:
    chosen, dropped = _split([draft for draft in drafts if scorer in draft.scores])
    return sections.ScoreHistogram.of(scorer, [d.scores[scorer] for d in chosen], [d.scores[scorer] for d in dropped])


def _one_of_each(dropped: Sequence[Draft]) -> list[Draft]:
    """Return up to two dropped drafts for each reason."""
    shown: list[Draft] = []
    counts: Counter[str | None] = Counter()
    for draft in dropped:
        counts[draft.dropped] += 1
        if counts[draft.dropped] <= 2:
            shown.append(draft)
    return shown


def _data(finished: Finished) -> sections.Data:
    rows = finished.learned.rows
    files = []
    if rows.file:
        skipped: dict[str, list[int]] = {}
        for row in rows.file["skipped"]:
            skipped.setdefault(row["reason"], []).append(row["row"])
        files.append(
            sections.DataFile(
                role="train",
                file=rows.file["name"],
                rows=rows.file["rows"],
                used=len(rows.examples),
                skipped=tuple(sections.Skipped(reason=reason, rows=tuple(numbers)) for reason, numbers in skipped.items()),
            )
        )
    test = finished.test
    if test is not None and finished.task.test is not None:
        unusable = sum(test.unusable.values())
        files.append(
            sections.DataFile(role="test", file=finished.task.test.name, rows=len(test.truth) + unusable, used=len(test.truth))
        )
    folds = tuple(sections.Fold(rows=int((rows.folds == fold).sum())) for fold in np.unique(rows.folds))
    return sections.Data(files=tuple(files), per_label=dict(rows.per_label), folds=folds)


def _lineage(finished: Finished) -> sections.Lineage:
    seconds = seconds_of(read_jsonl(finished.folder.path / "events.jsonl"))
    files = sorted(finished.bundle.iterdir())
    return sections.Lineage(
        command="refsynth " + " ".join(sys.argv[1:])
        if sys.argv and sys.argv[0].endswith("refsynth")
        else "refsynth.run(task, out=...)",
        seeds={"seed": finished.task.config.seed},
        machine=f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        versions={
            "refsynth": refsynth.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        artifacts=tuple(
            sections.Artifact(name=path.name, sha256=file_digest(path), detail=f"{path.stat().st_size:,} bytes") for path in files
        ),
        steps=tuple(
            sections.Step(name=name, seconds=taken, sha256=finished.folder.hash_of(name))
            for name, taken in seconds.items()
            if finished.folder.done(name)
        ),
    )
