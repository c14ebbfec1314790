"""What a run tells about its stages: a line for each, and the notes on it. Nothing here computes a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from refsynth.bundle.manifest import read_manifest
from refsynth.bundle.none import none_sentence
from refsynth.core.errors import counted
from refsynth.core.files import size_of
from refsynth.core.forecast import run_forecast
from refsynth.core.observe import Observer
from refsynth.core.types import Draft
from refsynth.evaluation.shared import FILE as OVERLAP
from refsynth.evaluation.shared import figure_of
from refsynth.learning.final import Final
from refsynth.learning.fits import Fits
from refsynth.learning.gate import Decision
from refsynth.learning.job import Job
from refsynth.learning.judge import Selected
from refsynth.learning.unused_settings import without_effect
from refsynth.pipeline.begin import notes_of
from refsynth.pipeline.encoder import language_notes
from refsynth.pipeline.evidence import Evidence
from refsynth.synthesis.drafts import WrittenDrafts
from refsynth.synthesis.no_drafts import explain_no_drafts


def tell_rows(job: Job) -> None:
    """Tell what was read, and which settings have no effect."""
    task, watch, counts = job.task, job.watch, job.rows.per_label
    least = min((counts[label] for label in task.labels), default=0)
    sizes = f"{least} to {max(counts.values(), default=0)} rows each"
    watch.stage("rows", f"{counted(len(job.rows.examples), 'row')}, {counted(len(task.labels), 'label')}, {sizes}")
    for note in (*notes_of(job), *language_notes(task, job.rows.language), *without_effect(task.config)):
        watch.note(note)
    if forecast := run_forecast(job.folder):
        watch.forecast(forecast)
    if (more := task.config.data.more) is not None and not more.exists():
        watch.note(f"{more.name} is not there yet; refsynth label add writes it")


def tell_written(job: Job, written: WrittenDrafts) -> None:
    """Tell how many drafts were written, and how many answers were no draft."""
    job.watch.stage("synthesize", f"{counted(written.asked, 'draft')}{_less(written.rejected)}")


def tell_screened(job: Job, drafts: Sequence[Draft]) -> None:
    """Tell how many drafts passed the checks that need no model of the rows."""
    reasons = Counter(draft.dropped for draft in drafts)
    job.watch.stage("screen", f"{reasons.pop(None, 0):,} kept{_less(reasons)}")


def tell_judge(job: Job, judge: Fits, drafts: Sequence[Draft]) -> None:
    """Tell which model judges drafts."""
    (fitted,) = judge.candidates
    task = ", the model that drafts have to agree with" if drafts else ""
    job.watch.stage("judge", f"{fitted.learner} on {_real(job, judge)}{task}")


def tell_selected(job: Job, drafts: Sequence[Draft], selected: Selected) -> None:
    """Tell how many of the screened drafts were chosen, and which of them could not be judged by their influence."""
    before = {draft.dropped for draft in drafts if draft.dropped is not None}
    reasons = Counter(draft.dropped for draft in selected.drafts if draft.dropped not in before)
    taken = len(selected.from_pool)
    pool = f", {taken:,} of {len(job.pool.texts):,} texts of the pool" if job.pool.texts else ""
    chosen = reasons.pop(None, 0) - taken
    job.watch.stage("select", f"{counted(chosen, 'draft')}{_less(reasons)}{pool}")
    if unknown := _without_influence(job, selected):
        of = counted(chosen, "selected draft")
        job.watch.note(f"influence: held-out rows cannot measure that of {unknown:,} of {of}; these drafts are kept")


def tell_decision(job: Job, decision: Decision) -> None:
    """Tell what the gate decided."""
    job.watch.stage("gate", decision.line())


def tell_trained(job: Job, decision: Decision, final: Final, selected: Selected) -> None:
    """Tell what ships learned from, and what a search found."""
    shipped = decision.shipped
    used = f" and {counted(len(selected.kept), 'draft')}" if shipped.drafts else ""
    job.watch.stage("train", f"{shipped.learner} on {_real(job, final.judge)}{used}")
    for search in final.found:
        job.watch.stage("search", search.line())


def tell_no_drafts(job: Job, written: WrittenDrafts, selected: Selected) -> None:
    """Tell why no draft is left, if none is."""
    if why := explain_no_drafts(written.asked, written.rejected, selected.generated):
        job.watch.note(why)


def tell_uncalibrated(job: Job, left_out: int) -> None:
    """Tell how many held-out rows say nothing about confidence."""
    if left_out:
        rows = counted(left_out, "held-out row")
        why = "no row of another fold has the label, or the text was not read to the end"
        job.watch.note(f"{rows} left out of calibration: {why}")


def tell_published(evidence: Evidence, watch: Observer) -> None:
    """Tell where the bundle is and when it marks a text as none of the labels, and its figures on the test file."""
    watch.stage("bundle", f"{evidence.bundle} ({size_of(evidence.bundle):.0f} MB)")
    if evidence.task.config.data.none is not None:
        watch.note(none_sentence(read_manifest(evidence.bundle)))
    if (test := evidence.test) is None:
        return
    for why, rows in test.unusable.items():
        more = ", ..." if len(rows) > 1 else ""
        watch.note(f"data.test: {len(rows):,} of {test.rows:,} rows left out: {why} (row {rows[0]:,}{more})")
    if (overlap := evidence.overlap) is None:
        first = figure_of(test, evidence.task)
        watch.stage("test", f"{first.name} {first.percent()}")
        return
    watch.stage("test", f"{overlap.file}: {overlap.line}")
    watch.note(f"test rows that are also in train, or nearly: {evidence.folder.path / OVERLAP}")


def resembling(leaked: Sequence[str]) -> str:
    """Return how many drafts and texts of the pool resemble test rows, with the first ids."""
    pool = sorted(name for name in leaked if name.startswith("pool-"))
    drafts = sorted(set(leaked) - set(pool))
    parts = [(counted(len(drafts), "draft"), drafts), (f"{counted(len(pool), 'text')} of the pool", pool)]
    named = [f"{what} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})" for what, ids in parts if ids]
    return f"{' and '.join(named)} {'resembles a test row' if len(leaked) == 1 else 'resemble test rows'}"


def _without_influence(job: Job, selected: Selected) -> int:
    """Return how many of the chosen drafts have no influence score although the task asks for it."""
    if not job.task.config.filter.influence or job.context.kind.several or job.context.kind.words:
        return 0
    return sum(draft.dropped is None and "influence" not in draft.scores for draft in selected.generated)


def _real(job: Job, judge: Fits) -> str:
    """Return what stands for real rows: without any, models learn from the labels' descriptions."""
    return counted(len(judge.real), "real row" if job.rows.examples else "description")


def _less(reasons: Mapping[str, int] | Counter[str | None]) -> str:
    parts = [f"-{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])]
    return ": " + ", ".join(parts) if parts else ""
