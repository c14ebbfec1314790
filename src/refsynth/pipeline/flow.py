"""The flow of a run, in the order in which its stages happen.

Rows are read. Drafts are written, screened, judged and selected. The gate holds rows out and decides. What may ship is fitted to
all rows, made a bundle, and measured on the test file. Only then are bundle and report published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from refsynth.compress.ship import publish
from refsynth.compress.tiers import Tiers
from refsynth.core.earlier import archive_report
from refsynth.core.errors import DataError
from refsynth.core.observe import Observer, Silent
from refsynth.core.record import recall_leaked, remember, remember_leaked
from refsynth.core.run import RunFolder
from refsynth.core.sections import ContractConfig
from refsynth.core.task import Task
from refsynth.core.types import Draft
from refsynth.data.io import check_header
from refsynth.data.row_reader import Spans
from refsynth.evaluation.origins import Pretraining
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
from refsynth.learning.selftrain import Choose, UnlabeledText
from refsynth.models.quiet import quiet
from refsynth.models.store import ModelStore
from refsynth.pipeline import messages
from refsynth.pipeline.begin import Begun, begin, notes_of
from refsynth.pipeline.bundles import make_bundles
from refsynth.pipeline.evidence import Evidence, Learned, Paths
from refsynth.pipeline.reopen import reopened
from refsynth.pipeline.report import FILES, write_report
from refsynth.pipeline.track import check_trackers, track, tracked_of
from refsynth.synthesis.build import check_reference
from refsynth.synthesis.coverage import measure_coverage
from refsynth.synthesis.drafts import WrittenDrafts, kept_drafts
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
        messages.tell_rows(begun.job)
        check_reference(task.config, folder.path, watch)
        leaked = recall_leaked(task, folder)
        if leaked:
            watch.note(f"{messages.resembling(leaked)}: they are left out, as before")
            begun = start(forget=leaked)
        evidence = run_stages(begun)
        while evidence.test and (new := set(evidence.test.leaked) - set(leaked)):
            # A model that was trained on copies of test rows must not ship, and only the test stage finds them.
            leaked = (*leaked, *sorted(new))
            watch.note(f"{messages.resembling(leaked)}: they are taken out, and every step that used them is repeated")
            remember_leaked(task, folder, leaked)
            evidence = run_stages(start(forget=leaked))
        _publish(evidence, watch)
        written = write_report(evidence)
        if task.config.track:
            track(tracked_of(evidence, written.report, written.paths), task.config.track, folder.path / "track")
        if earlier or written.earlier:
            watch.note(f"the report of the run before is kept: {(*earlier, *written.earlier)[0]}")
    return RunResult(evidence.bundle, written.report, written.paths, evidence)


def run_stages(begun: Begun) -> Evidence:
    """Run the stages in the order in which they happen, up to the test file. Nothing is published yet."""
    job = begun.job
    reference = pretrain_reference(job, begun.source)
    writers = prepare_writers(job, reference.source)
    written, rounds = synthesize(job, writers)
    drafts = screen(job, writers, written)
    choice = choice_of(job, drafts)
    judge = train_judge(job, drafts)
    selected = select_drafts(job, judge, drafts, choice)
    # Each fold selects among all screened drafts for itself: the judge, and so `selected`, has seen the rows that are held out.
    held = hold_out(job, drafts, choice)
    candidates = candidates_of(job.learners, selected.drafts)
    decision = decide(held, candidates, why=job.rows.why_unmeasurable, looks=max(1, len(rounds)))
    messages.tell_decision(job, decision)
    final = train(job, judge, selected, decision)
    messages.tell_no_drafts(job, written, selected)
    pretrained = tuple(brought for brought in (begun.pretrained, reference.pretraining) if brought is not None)
    learned = Learned(
        job.rows, written, drafts, selected, held, decision, final, rounds, writers.curves, pretrained, notes_of(job)
    )
    shrunk, calibrated, tiers = make_bundles(job, learned)
    messages.tell_uncalibrated(job, calibrated.left_out)
    studied = _studied(job, pretrained)
    # Last: nothing above reads a test row. `run` repeats all of it if what was learned resembles one.
    test = measure(job, learned, tiers, studied)
    overlap = None if test is None else overlap_of(test, job.task)
    coverage = measure_coverage(job.rows, final.drafts, job.context, job.folder)
    return Evidence(job.task, job.folder, learned, shrunk, calibrated, test, coverage, tiers, len(studied), overlap)


def writers_of(begun: Begun) -> Writers:
    """Return the generators of a run's drafts, pretrained and reinforced if the task asks for that."""
    return prepare_writers(begun.job, pretrain_reference(begun.job, begun.source).source)


def synthesize(job: Job, writers: Writers) -> tuple[WrittenDrafts, tuple[Round, ...]]:
    """Return the drafts of all rounds, and the result of each round."""
    written, rounds = write_rounds(job, writers)
    messages.tell_written(job, written)
    return written, rounds


def screen(job: Job, writers: Writers, written: WrittenDrafts) -> list[Draft]:
    """Return all drafts; those that fail the checks of their form have the reason."""
    drafts = screened(job, writers, written)
    messages.tell_screened(job, drafts)
    return drafts


def train_judge(job: Job, drafts: Sequence[Draft]) -> Fits:
    """Fit the judge to all real rows; it selects among the drafts, and may ship."""
    judge = fit_judge(job)
    messages.tell_judge(job, judge, drafts)
    return judge


def select_drafts(job: Job, judge: Fits, drafts: Sequence[Draft], choice: Choose) -> Selected:
    """Return the drafts that the final models learn from, and why the others were left out."""
    selected = select(job, judge, drafts, choice)
    messages.tell_selected(job, drafts, selected)
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
        drafts = screen(job, writers_of(begun), kept_drafts(job.folder))
        return select_drafts(job, fit_judge(job), drafts, choice_of(job, drafts))


def train(job: Job, judge: Fits, selected: Selected, decision: Decision) -> Final:
    """Fit what ships to all rows; under a contract also the small learners, which may ship in its place."""
    shipped = decision.shipped
    small = small_of(job.learners, drafts=shipped.drafts) if job.task.config.contract != ContractConfig() else []
    fitted = {shipped, *small}
    final = fit_final(job, judge, selected, [each for each in candidates_of(job.learners, selected.drafts) if each in fitted])
    messages.tell_trained(job, decision, final, selected)
    return final


def compare(job: Job, learned: Learned) -> Final:
    """Fit the candidates that the report compares with what ships, to measure them on the test file."""
    final, selected = learned.final, learned.selected
    missing = set(learned.decision.compared(job.learners)) - set(final.candidates)
    others = [each for each in candidates_of(job.learners, selected.drafts) if each in missing]
    return fit_final(job, final.judge, selected, others, step="compared")


def measure(job: Job, learned: Learned, tiers: Tiers, studied: Sequence[UnlabeledText]) -> TestResult | None:
    """Measure what ships, and what the report compares with it, on the test file; None without one."""
    if job.task.config.data.test is None:
        return None
    compared = compare(job, learned)
    return evaluate_test(job, learned.final, compared, learned.held, tiers.bundle, made=tiers.step, studied=studied)


def _studied(job: Job, pretrained: Sequence[Pretraining]) -> tuple[UnlabeledText, ...]:
    """Return the texts of the pool that models, or students of what ships, have learned from without a label."""
    config = job.task.config
    taught = "distilled" in config.learners or config.compress.tiers != "one" or config.contract != ContractConfig()
    return job.pool.texts if taught or any(one.used for one in pretrained) else ()


def _publish(evidence: Evidence, watch: Observer) -> None:
    """Copy what ships, and the list of test rows that are in train, to where the user looks for them."""
    measured, tiers = evidence.measured, evidence.tiers
    tested = [] if measured is None else [figure_of(measured, evidence.task)]
    publish(tiers.bundle, evidence.bundle, tested=tested, limits=tiers.limits)
    write_overlap(evidence.folder.path / OVERLAP, evidence.overlap)
    messages.tell_published(evidence, watch)


def _check_files(task: Task) -> None:
    """Check that the files exist and the test file has its columns: a run of many minutes must not end on a misspelled name."""
    data = task.config.data
    for role, path in (("train", task.train), ("pool", data.pool), ("test", task.test), ("none", data.none)):
        if isinstance(path, Path) and not path.is_file():
            raise DataError(f"{path}: no such file", remedy=f"correct data.{role} in task.yaml")
    if task.test is not None:
        spans: Spans = "marked" if task.config.kind.words else "none"
        check_header(task.test, columns=data.columns, **data.written, spans=spans)
