"""The flow of a run: rows, drafts, screen, fit, gate, bundle, the test file, the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from refsynth.bundle.manifest import read_manifest
from refsynth.bundle.none import none_sentence
from refsynth.compress.ship import publish
from refsynth.core.earlier import archive_report
from refsynth.core.errors import DataError, counted
from refsynth.core.forecast import run_forecast
from refsynth.core.observe import Observer, Silent
from refsynth.core.record import recall_leaked, remember, remember_leaked
from refsynth.core.run import RunFolder, size_of
from refsynth.core.sections import ContractConfig
from refsynth.core.task import Task
from refsynth.core.types import Draft
from refsynth.data.io import check_header
from refsynth.data.row_reader import Spans
from refsynth.evaluation.origins import Pretraining
from refsynth.evaluation.overlap import Overlap
from refsynth.evaluation.report import Report
from refsynth.evaluation.shared import FILE as OVERLAP
from refsynth.evaluation.shared import figure_of, overlap_of, write_overlap
from refsynth.evaluation.testfile import TestResult, evaluate_test
from refsynth.learning.candidates import candidates_of, small_of
from refsynth.learning.final import Final, fit_final
from refsynth.learning.fits import Fits
from refsynth.learning.gate import Decision, decide, hold_out
from refsynth.learning.job import Job
from refsynth.learning.judge import Selected, fit_judge, select
from refsynth.learning.rows import Rows
from refsynth.learning.selftrain import Choose, UnlabeledText
from refsynth.learning.unused_settings import without_effect
from refsynth.models.quiet import quiet
from refsynth.models.store import ModelStore
from refsynth.pipeline.begin import Begun, begin, notes_of
from refsynth.pipeline.bundles import make_bundles
from refsynth.pipeline.encoder import language_notes
from refsynth.pipeline.evidence import Evidence, Learned, Paths
from refsynth.pipeline.reopen import reopened
from refsynth.pipeline.report import FILES, write_report
from refsynth.pipeline.track import check_trackers, track, tracked_of
from refsynth.synthesis.build import check_reference
from refsynth.synthesis.coverage import measure_coverage
from refsynth.synthesis.drafts import WrittenDrafts, kept_drafts
from refsynth.synthesis.no_drafts import explain_no_drafts
from refsynth.synthesis.pretraining import pretrain_reference
from refsynth.synthesis.rounds import Round, screened, write_rounds
from refsynth.synthesis.selection.choose import choice_of
from refsynth.synthesis.writers import Writers, prepare_writers


@dataclass(frozen=True)
class RunResult:
    """The result of `run`: the bundle, the report as values and as files, and the evidence behind them."""

    bundle: Path
    report: Report
    paths: Paths
    evidence: Evidence


def run(
    task: Task | str | Path,
    out: str | Path,
    *,
    store: ModelStore | None = None,
    watch: Observer | None = None,
    skip_bad: bool = False,
) -> RunResult:
    """Run a task from its rows to a bundle and a report in the folder `out`; resume an interrupted run.

    Args:
        task: the task, or the path of a task.yaml.
        out: the run folder, new or of the same task.
        store: the store of model weights.
        watch: receives progress and notes.
        skip_bad: leave unusable rows out and list them, instead of stopping at the first.

    Raises:
        RefsynthError: see `core.errors`; finished steps are kept.
    """
    task = task if isinstance(task, Task) else Task.load(task)
    _check_files(task)
    check_trackers(task.config.track)
    folder, watch = RunFolder(Path(out)), watch or Silent()
    with folder.lock(), quiet():
        start = partial(begin, task, folder, store or ModelStore(), watch, skip_bad=skip_bad)
        begun = start()
        other = remember(task, folder, skip_bad=skip_bad)
        # Should this run fail, no file of another run may pass for its own.
        earlier = archive_report(folder.path, FILES) if other else ()
        _tell_begin(begun.job)
        leaked = recall_leaked(task, folder)
        if leaked:
            watch.note(f"{_resembling(leaked)}: they are left out, as before")
            begun = start(forget=leaked)
        evidence = make(begun)
        while evidence.test and (new := set(evidence.test.leaked) - set(leaked)):
            # A model that was trained on copies of test rows must not ship, and only the test stage finds them.
            leaked = (*leaked, *sorted(new))
            watch.note(f"{_resembling(leaked)}: they are taken out, and every step that used them is repeated")
            remember_leaked(task, folder, leaked)
            evidence = make(start(forget=leaked))
        written = write_report(evidence)
        if task.config.track:
            track(tracked_of(evidence, written.report, written.paths), task.config.track, folder.path / "track")
        if earlier or written.earlier:
            watch.note(f"the report of the run before is kept: {(*earlier, *written.earlier)[0]}")
    return RunResult(evidence.bundle, written.report, written.paths, evidence)


def make(begun: Begun) -> Evidence:
    """Run the stages in the order in which they happen."""
    job = begun.job
    reference = pretrain_reference(job, begun.source)
    writers = prepare_writers(job, reference.source)
    written, rounds = synthesize(job, writers)
    drafts = screened(job, writers, written)
    choice = choice_of(job, drafts)
    judge = fit_judge(job)
    selected = select_drafts(job, judge, drafts, choice)
    held = hold_out(job, drafts, choice)
    candidates = candidates_of(job.learners, selected.drafts)
    decision = decide(held, candidates, why=job.rows.why_unmeasurable, looks=max(1, len(rounds)))
    job.watch.stage("gate", decision.line())
    final = train(job, judge, selected, decision)
    pretrained = tuple(brought for brought in (begun.pretrained, reference.pretraining) if brought is not None)
    learned = Learned(
        job.rows, written, drafts, selected, held, decision, final, rounds, writers.curves, pretrained, notes_of(job)
    )
    if why := explain_no_drafts(written.asked, written.rejected, selected.generated):
        job.watch.note(why)
    return _deliver(job, learned)


def writers_of(begun: Begun) -> Writers:
    """Return the generators of a run's drafts, pretrained and reinforced if the task asks for that."""
    return prepare_writers(begun.job, pretrain_reference(begun.job, begun.source).source)


def synthesize(job: Job, writers: Writers) -> tuple[WrittenDrafts, tuple[Round, ...]]:
    """Return the drafts of all rounds, and the result of each round."""
    written, rounds = write_rounds(job, writers)
    job.watch.stage("synthesize", f"{counted(written.asked, 'draft')}{_less(written.rejected)}")
    return written, rounds


def select_drafts(job: Job, judge: Fits, drafts: Sequence[Draft], choice: Choose) -> Selected:
    """Return the drafts that the final models learn from, and report what was left out."""
    selected = select(job, judge, drafts, choice)
    screen = Counter(draft.dropped for draft in drafts)
    job.watch.stage("filter", f"{screen.pop(None, 0):,} kept{_less(screen)}")
    reasons = Counter(draft.dropped for draft in selected.drafts if draft.dropped not in screen)
    taken = len(selected.from_pool)
    pool = f", {taken:,} of {len(job.pool.texts):,} texts of the pool" if job.pool.texts else ""
    chosen = reasons.pop(None, 0) - taken
    job.watch.stage("select", f"{counted(chosen, 'draft')}{_less(reasons)}{pool}")
    if unknown := _unjudged(job, selected):
        of = counted(chosen, "selected draft")
        job.watch.note(f"influence: held-out rows cannot measure that of {unknown:,} of {of}; these drafts are kept")
    return selected


SELECTION = ("rows", "none", "pool", "encoder", "topics", "screen", "judged", "select")
"""The steps that a new selection may make again. None of them trains."""


def select_again(run: Path, overrides: Sequence[str], watch: Observer, *, store: ModelStore | None = None) -> Selected:
    """Select again among the drafts of a run folder, with overrides of its settings; no model is trained and no draft is written.

    Raises:
        InputError: the run stopped before its drafts were selected, or another version made it.
        RefsynthError: the overrides are wrong, or the rows can no longer be used.
    """
    with reopened(run, overrides, watch, store=store, makes=SELECTION) as begun:
        job = begun.job
        drafts = screened(job, writers_of(begun), kept_drafts(job.folder))
        return select_drafts(job, fit_judge(job), drafts, choice_of(job, drafts))


def train(job: Job, judge: Fits, selected: Selected, decision: Decision) -> Final:
    """Fit what ships to all rows; under a contract also the small learners, which may ship in its place."""
    shipped = decision.shipped
    small = small_of(job.learners, drafts=shipped.drafts) if job.task.config.contract != ContractConfig() else []
    fitted = {shipped, *small}
    final = fit_final(job, judge, selected, [each for each in candidates_of(job.learners, selected.drafts) if each in fitted])
    what = "real row" if job.rows.examples else "description"  # without rows it learns from the labels' descriptions alone
    used = f" and {counted(len(selected.kept), 'draft')}" if shipped.drafts else ""
    job.watch.stage("train", f"{shipped.learner} on {counted(len(final.real), what)}{used}")
    for search in final.found:
        job.watch.stage("search", search.line())
    return final


def compare(job: Job, learned: Learned) -> Final:
    """Fit the candidates that the report compares with what ships, to measure them on the test file."""
    final, selected = learned.final, learned.selected
    missing = set(learned.decision.compared(job.learners)) - set(final.candidates)
    others = [each for each in candidates_of(job.learners, selected.drafts) if each in missing]
    return fit_final(job, final.judge, selected, others, step="compared")


def _tell_begin(job: Job) -> None:
    """Report what was read, and which settings have no effect."""
    task, watch = job.task, job.watch
    watch.stage("rows", _rows_line(job.rows, task))
    for note in (*notes_of(job), *language_notes(task, job.rows.language), *without_effect(task.config)):
        watch.note(note)
    check_reference(task.config, job.folder.path, watch)
    if forecast := run_forecast(job.folder):
        watch.forecast(forecast)
    if (more := task.config.data.more) is not None and not more.exists():
        watch.note(f"{more.name} is not there yet; refsynth label add writes it")


def _studied(job: Job, pretrained: Sequence[Pretraining]) -> tuple[UnlabeledText, ...]:
    """Return the texts of the pool that models, or students of what ships, have learned from without a label."""
    config = job.task.config
    taught = "distilled" in config.learners or config.compress.tiers != "one" or config.contract != ContractConfig()
    return job.pool.texts if taught or any(one.used for one in pretrained) else ()


def _unjudged(job: Job, selected: Selected) -> int:
    """Return how many of the chosen drafts have no influence score although the task asks for it."""
    if not job.task.config.filter.influence or job.context.kind.several or job.context.kind.words:
        return 0
    return sum(draft.dropped is None and "influence" not in draft.scores for draft in selected.generated)


def _deliver(job: Job, learned: Learned) -> Evidence:
    task, folder, context, watch = job.task, job.folder, job.context, job.watch
    shrunk, calibrated, tiers = make_bundles(job, learned)
    if calibrated.left_out:
        rows = counted(calibrated.left_out, "held-out row")
        watch.note(f"{rows} left out of calibration: no row of another fold has the label, or the text was not read to the end")
    studied, test, overlap = _studied(job, learned.pretrained), None, None
    if task.config.data.test is not None:
        compared = compare(job, learned)
        test = evaluate_test(job, learned.final, compared, learned.held, tiers.bundle, made=tiers.step, studied=studied)
        overlap = overlap_of(test, task)
    tested = [figure_of(test.new, task)] if test is not None and test.new is not None else []
    bundle = publish(tiers.bundle, folder.path / "bundle", tested=tested, limits=tiers.limits)
    watch.stage("bundle", f"{bundle} ({size_of(bundle):.0f} MB)")
    if task.config.data.none is not None:
        watch.note(none_sentence(read_manifest(bundle)))
    write_overlap(folder.path / OVERLAP, overlap)
    if test is not None:
        _tell_test(job, test, overlap)
    coverage = measure_coverage(learned.rows, learned.final.drafts, context, folder)
    return Evidence(task, folder, learned, shrunk, calibrated, bundle, test, coverage, tiers, len(studied), overlap)


def _resembling(leaked: Sequence[str]) -> str:
    """Return how many drafts and texts of the pool resemble test rows, with the first ids."""
    pool = sorted(name for name in leaked if name.startswith("pool-"))
    drafts = sorted(set(leaked) - set(pool))
    parts = [(counted(len(drafts), "draft"), drafts), (f"{counted(len(pool), 'text')} of the pool", pool)]
    named = [f"{what} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})" for what, ids in parts if ids]
    return f"{' and '.join(named)} {'resembles a test row' if len(leaked) == 1 else 'resemble test rows'}"


def _tell_test(job: Job, test: TestResult, overlap: Overlap | None) -> None:
    """Report which test rows were left out, which are also in train, and the figure with and without these."""
    for why, rows in test.unusable.items():
        more = ", ..." if len(rows) > 1 else ""
        job.watch.note(f"data.test: {len(rows):,} of {test.rows:,} rows left out: {why} (row {rows[0]:,}{more})")
    if overlap is None:
        first = figure_of(test, job.task)
        job.watch.stage("test", f"{first.name} {first.percent()}")
        return
    job.watch.stage("test", f"{overlap.file}: {overlap.line}")
    job.watch.note(f"test rows that are also in train, or nearly: {job.folder.path / OVERLAP}")


def _check_files(task: Task) -> None:
    """Check that the files exist and the test file has its columns: a run of many minutes must not end on a misspelled name."""
    data = task.config.data
    for role, path in (("train", task.train), ("pool", data.pool), ("test", task.test), ("none", data.none)):
        if isinstance(path, Path) and not path.is_file():
            raise DataError(f"{path}: no such file", remedy=f"correct data.{role} in task.yaml")
    if task.test is not None:
        spans: Spans = "marked" if task.config.kind.words else "none"
        check_header(task.test, columns=data.columns, **data.written, spans=spans)


def _rows_line(rows: Rows, task: Task) -> str:
    counts = rows.per_label
    least = min((counts[label] for label in task.labels), default=0)
    sizes = f"{least} to {max(counts.values(), default=0)} rows each"
    return f"{counted(len(rows.examples), 'row')}, {counted(len(task.labels), 'label')}, {sizes}"


def _less(reasons: Mapping[str, int] | Counter[str | None]) -> str:
    parts = [f"-{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])]
    return ": " + ", ".join(parts) if parts else ""
