"""The flow of a run: rows, drafts, screen, fit, gate, bundle, the test file, the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refsynth.bundle.manifest import read_manifest
from refsynth.bundle.none import none_sentence
from refsynth.core.errors import DataError, counted
from refsynth.core.run import RunFolder, size_of
from refsynth.core.types import Draft
from refsynth.data.io import check_header
from refsynth.data.judge import Spans
from refsynth.evaluation.overlap import Overlap
from refsynth.evaluation.report import Report
from refsynth.models.quiet import quiet
from refsynth.models.store import ModelStore
from refsynth.pipeline.bundles import make_bundles
from refsynth.pipeline.coverage import measure_coverage
from refsynth.pipeline.drafts import Written
from refsynth.pipeline.earlier import move_aside
from refsynth.pipeline.encoder import language_notes
from refsynth.pipeline.evaluate import TestResult, evaluate_test
from refsynth.pipeline.finished import Finished, Learned
from refsynth.pipeline.fit import Final, fit_final
from refsynth.pipeline.forecast import run_forecast
from refsynth.pipeline.gate import decide
from refsynth.pipeline.idle import without_effect
from refsynth.pipeline.job import Job
from refsynth.pipeline.observe import Observer, Silent
from refsynth.pipeline.overlap import FILE as OVERLAP
from refsynth.pipeline.overlap import figure_of, overlap_of, write_overlap
from refsynth.pipeline.reopen import recall_leaked, remember, remember_leaked
from refsynth.pipeline.report import FILES, Paths, write_report
from refsynth.pipeline.rounds import Round, write_rounds
from refsynth.pipeline.rows import Rows
from refsynth.pipeline.server import check_server
from refsynth.pipeline.ship import publish
from refsynth.pipeline.track import check_trackers, story_of, track
from refsynth.pipeline.unkept import none_kept
from refsynth.task import Task


@dataclass(frozen=True)
class RunResult:
    """What `run` gives back: the bundle, the report as values and as files, and everything that led to them."""

    bundle: Path
    report: Report
    paths: Paths
    finished: Finished


def run(
    task: Task | str | Path,
    out: str | Path,
    *,
    store: ModelStore | None = None,
    watch: Observer | None = None,
    skip_bad: bool = False,
) -> RunResult:
    """Run a task from its rows to a bundle and a report in the folder `out`; go on where an earlier run stopped.

    Args:
        task: what is asked, or the path of a task.yaml.
        out: the run folder, new or of the same task.
        store: where model weights are.
        watch: is told what happens.
        skip_bad: leave unusable rows out and list them, instead of stopping at the first.

    Raises:
        RefsynthError: see `core.errors`; what was finished before is kept.
    """
    task = task if isinstance(task, Task) else Task.load(task)
    _check_files(task)
    check_trackers(task.config.track)
    folder, watch = RunFolder(Path(out)), watch or Silent()
    with folder.lock(), quiet():
        job = Job.begin(task, folder, store or ModelStore(), watch, skip_bad=skip_bad)
        other = remember(task, folder, skip_bad=skip_bad)
        earlier = move_aside(folder.path, FILES) if other else ()  # should this run fail, nothing there passes for its own
        watch.stage("rows", _rows_line(job.rows, task))
        for note in (*job.notes, *language_notes(task, job.rows.language), *without_effect(task.config)):
            watch.note(note)
        check_server(task.config, folder.path, watch)
        if told := run_forecast(folder):
            watch.forecast(told)
        if (more := task.config.data.more) is not None and not more.exists():
            watch.note(f"{more.name} is not there yet; refsynth label add writes it")
        leaked = recall_leaked(task, folder)
        if leaked:
            watch.note(f"{_resembling(leaked)}: they are left out, as before")
            job = job.forgetting(leaked)
        finished = _deliver(job, _learn(job))
        while finished.test and (found := set(finished.test.leaked) - set(leaked)):
            # Only now is it known that these copy the test file: a model that was trained on them must not be shipped.
            leaked = (*leaked, *sorted(found))
            watch.note(f"{_resembling(leaked)}: they are taken out, and what they touched is made again")
            remember_leaked(task, folder, leaked)
            job = job.forgetting(leaked)
            finished = _deliver(job, _learn(job))
        written = write_report(finished)
        if task.config.track:
            track(story_of(finished, written.report, written.paths), task.config.track, folder.path / "track")
        if earlier or written.earlier:
            watch.note(f"the report of the run before is kept: {(*earlier, *written.earlier)[0]}")
    return RunResult(finished.bundle, written.report, written.paths, finished)


def synthesize(job: Job) -> tuple[Written, tuple[Round, ...]]:
    """Return the drafts of all rounds, and what each round brought."""
    written, rounds = write_rounds(job)
    job.watch.stage("synthesize", f"{counted(written.asked, 'draft')}{_less(written.rejected)}")
    return written, rounds


def choose(job: Job, written: Written) -> tuple[list[Draft], Final]:
    """Return the screened drafts, and all candidates fitted to the real rows and the drafts that were chosen."""
    screened = job.screen(written, job.folder)
    reasons = Counter(draft.dropped for draft in screened)
    job.watch.stage("filter", f"{reasons.pop(None, 0):,} kept{_less(reasons)}")
    choice = job.choice(screened)
    final = fit_final(job.task, job.rows, screened, job.learners, choice, job.shop, job.folder, pool=job.pool_key)
    reasons = Counter(draft.dropped for draft in final.drafts if draft.dropped not in reasons)
    taken = len(final.from_pool)
    pool = f", {taken:,} of {len(job.pool.texts):,} texts of the pool" if job.pool.texts else ""
    chosen = reasons.pop(None, 0) - taken
    what = "real row" if job.rows.examples else "description"  # of labels: from these alone it learns where there is no row
    job.watch.stage("train", f"{counted(len(final.real), what)}{pool}; {counted(chosen, 'draft')} chosen{_less(reasons)}")
    if why := none_kept(written.asked, written.rejected, final.generated):
        job.watch.note(why)
    for found in final.found:
        job.watch.stage("search", found.line())
    if unknown := _unjudged(job, final):
        job.watch.note(f"influence: no held-out row can tell of {unknown:,} of {counted(chosen, 'chosen draft')}; they stay")
    return screened, final


def _unjudged(job: Job, final: Final) -> int:
    """Return how many of the chosen drafts have no influence although it was asked for."""
    if not job.task.config.filter.influence or job.shop.kind.several or job.shop.kind.spans:
        return 0
    return sum(draft.dropped is None and "influence" not in draft.scores for draft in final.generated)


def _learn(job: Job) -> Learned:
    written, rounds = synthesize(job)
    screened, final = choose(job, written)
    held = job.hold_out(screened, job.folder)
    decision = decide(held, final.candidates, why=job.rows.why_unjudged, looks=max(1, len(rounds)))
    job.watch.stage("gate", decision.line())
    _, curves = job.taught
    return Learned(job.rows, written, screened, held, decision, final, rounds, curves, job.pretrained, job.notes)


def _deliver(job: Job, learned: Learned) -> Finished:
    task, folder, shop, watch = job.task, job.folder, job.shop, job.watch
    shrunk, calibrated, tiers = make_bundles(job, learned)
    if calibrated.left_out:
        alone = counted(calibrated.left_out, "held-out row")
        watch.note(
            f"{alone} took no part in calibration: no row of another fold has their label, or they are too long to be read"
        )
    real, studied = learned.rows.examples, job.studied
    test = evaluate_test(
        task.config, learned.final, learned.held, shop, tiers.bundle, folder, real=real, made=tiers.step, studied=studied
    )
    overlap = None if test is None else overlap_of(test, task)
    tested = [figure_of(test.new, task)] if test is not None and test.new is not None else []
    bundle = publish(tiers.bundle, folder.path / "bundle", tested=tested, limits=tiers.limits)
    watch.stage("bundle", f"{bundle} ({size_of(bundle):.0f} MB)")
    if task.config.data.none is not None:
        watch.note(none_sentence(read_manifest(bundle)))
    write_overlap(folder.path / OVERLAP, overlap)
    if test is not None:
        _tell_test(job, test, overlap)
    coverage = measure_coverage(learned.rows, learned.final.drafts, shop, folder)
    return Finished(task, folder, learned, shrunk, calibrated, bundle, test, coverage, tiers, len(studied), overlap)


def _resembling(leaked: Sequence[str]) -> str:
    """Return how many drafts and texts of the pool resemble test rows, by their ids, and which the first are."""
    pool = sorted(name for name in leaked if name.startswith("pool-"))
    drafts = sorted(set(leaked) - set(pool))
    parts = [(counted(len(drafts), "draft"), drafts), (f"{counted(len(pool), 'text')} of the pool", pool)]
    said = [f"{what} ({', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''})" for what, ids in parts if ids]
    return f"{' and '.join(said)} {'resembles a test row' if len(leaked) == 1 else 'resemble test rows'}"


def _tell_test(job: Job, test: TestResult, overlap: Overlap | None) -> None:
    """Say which test rows were left out, which are in train too, and the figure with and without these."""
    for why, rows in test.unusable.items():
        more = ", ..." if len(rows) > 1 else ""
        job.watch.note(f"data.test: {len(rows):,} of {test.rows:,} rows left out: {why} (row {rows[0]:,}{more})")
    if overlap is None:
        first = figure_of(test, job.task)
        job.watch.stage("test", f"{first.name} {first.percent()}")
        return
    job.watch.stage("test", f"{overlap.file}: {overlap.line}")
    job.watch.note(f"the test rows that are, or nearly are, in train: {job.folder.path / OVERLAP}")


def _check_files(task: Task) -> None:
    """See that the files are there and the test file has its columns: a run of many minutes must not end on a misspelt name."""
    given = task.config.data
    for role, path in (("train", task.train), ("pool", given.pool), ("test", task.test), ("none", given.none)):
        if isinstance(path, Path) and not path.is_file():
            raise DataError(f"{path}: no such file", remedy=f"correct data.{role} in task.yaml")
    if task.test is not None:
        data = task.config.data
        spans: Spans = "marked" if task.config.task == "tokens" else "none"
        check_header(task.test, columns=data.columns, **data.written, spans=spans)


def _rows_line(rows: Rows, task: Task) -> str:
    counts = rows.per_label
    least = min((counts[label] for label in task.labels), default=0)
    sizes = f"{least} to {max(counts.values(), default=0)} rows each"
    return f"{counted(len(rows.examples), 'row')}, {counted(len(task.labels), 'label')}, {sizes}"


def _less(reasons: Mapping[str, int] | Counter[str | None]) -> str:
    parts = [f"-{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])]
    return ": " + ", ".join(parts) if parts else ""
