"""The whole flow on one screen: rows, drafts, screen, gate, fit, bundle, the test file, the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from refsynth.core.errors import DataError
from refsynth.core.run import RunFolder
from refsynth.core.types import Metric
from refsynth.evaluation.report import Report
from refsynth.metrics import accuracy_interval
from refsynth.models.store import ModelStore
from refsynth.pipeline.build import LEARNERS, Workshop, make_augmenters, make_generator, make_workshop
from refsynth.pipeline.candidates import ranked
from refsynth.pipeline.choose import Chooser
from refsynth.pipeline.coverage import measure_coverage
from refsynth.pipeline.drafts import screen_drafts, write_drafts
from refsynth.pipeline.encoder import prepare_encoder
from refsynth.pipeline.evaluate import SHIPPED, evaluate_test
from refsynth.pipeline.finished import Finished, Learned
from refsynth.pipeline.fit import fit_final
from refsynth.pipeline.gate import decide, hold_out
from refsynth.pipeline.observe import Observer, Silent
from refsynth.pipeline.report import Paths, write_report
from refsynth.pipeline.rows import Rows, read_rows
from refsynth.pipeline.ship import calibrate, write_bundle
from refsynth.task import Task

MAX_TOKENS = 128


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
    folder, watch = RunFolder(Path(out)), watch or Silent()
    with folder.lock():
        rows = read_rows(task, folder, skip_bad=skip_bad)
        watch.stage("rows", _rows_line(rows, task))
        for note in rows.file.get("notes", ()):
            watch.note(note)
        store = store or ModelStore()
        encoder = prepare_encoder(task, rows, store, folder)
        shop = make_workshop(task, rows.language, encoder, max_tokens=MAX_TOKENS)
        finished = _deliver(task, folder, shop, _learn(task, folder, rows, shop, store, watch, forget=()), watch)
        if finished.test and finished.test.leaked:
            # Only now is it known that these copy the test file: a model that was trained on them must not be shipped.
            leaked = finished.test.leaked
            watch.note(f"{len(leaked)} drafts resemble test rows: they are taken out, and what they touched is made again")
            finished = _deliver(task, folder, shop, _learn(task, folder, rows, shop, store, watch, forget=leaked), watch)
        report, paths = write_report(finished)
    return RunResult(finished.bundle, report, paths, finished)


def _learn(
    task: Task, folder: RunFolder, rows: Rows, shop: Workshop, store: ModelStore, watch: Observer, *, forget: Sequence[str]
) -> Learned:
    config = task.config
    generator = partial(make_generator, config, store)
    written = write_drafts(task, rows, folder, generator, partial(make_augmenters, config), watch)
    watch.stage("synthesize", f"{written.asked:,} drafts{_less(written.rejected)}")
    screened = screen_drafts(task, rows, written, folder, generator, forget=forget)
    reasons = Counter(draft.dropped for draft in screened)
    watch.stage("filter", f"{reasons.pop(None, 0):,} kept{_less(reasons)}")
    learners = ranked(config.learners)
    folds = dict(zip((row.id for row in rows.examples), rows.folds.tolist(), strict=True))
    choose = Chooser(task.labels, config.filter, shop.encoder, folds, rows.examples, screened).choose
    final = fit_final(task, rows, screened, learners, choose, shop, folder)
    reasons = Counter(draft.dropped for draft in final.drafts if draft.dropped not in reasons)
    watch.stage("train", f"{len(final.real):,} real rows; {reasons.pop(None, 0):,} drafts chosen{_less(reasons)}")
    held = None
    if rows.judged:
        with watch.progress("gate", config.gate.repeats * config.gate.folds) as progress:
            held = hold_out(
                rows,
                screened,
                {name: LEARNERS[name](shop) for name in learners},
                choose,
                shop.encoder_hash,
                task,
                folder,
                progress,
            )
    decision = decide(held, final.candidates)
    watch.stage("gate", decision.line())
    return Learned(rows, written, screened, held, decision, final)


def _deliver(task: Task, folder: RunFolder, shop: Workshop, learned: Learned, watch: Observer) -> Finished:
    shipped = learned.decision.shipped
    calibrated = calibrate(learned.held, shipped)
    metrics: tuple[Metric, ...] = ()
    if learned.held:
        metrics = (learned.held.accuracy(shipped),)
    bundle = write_bundle(
        task,
        shipped,
        learned.final.predictors(shop)[shipped],
        shop,
        folder,
        calibrated=calibrated,
        metrics=metrics,
        lineage=_lineage(task, folder, learned),
    )
    watch.stage("bundle", f"{bundle} ({sum(path.stat().st_size for path in bundle.iterdir()) / 1e6:.0f} MB)")
    test = evaluate_test(task.config, learned.final, shop, bundle, folder)
    if test is not None:
        watch.stage("test", f"accuracy {accuracy_interval(test.truth, test.predicted[SHIPPED]).percent()}")
    coverage = measure_coverage(learned.rows, learned.final, shop, folder)
    return Finished(task, folder, learned, calibrated, bundle, test, coverage)


def _check_files(task: Task) -> None:
    """See that the files are there, without opening them: a run of many minutes must not end on a misspelt name."""
    for role, path in (("train", task.train), ("test", task.test)):
        if path is not None and not path.is_file():
            raise DataError(f"{path}: no such file", remedy=f"correct data.{role} in task.yaml")


def _lineage(task: Task, folder: RunFolder, learned: Learned) -> Mapping[str, Any]:
    return {
        "candidate": str(learned.decision.shipped),
        "reason": learned.decision.reason,
        "reference": learned.written.reference,
        "seed": task.config.seed,
        "steps": {name: folder.hash_of(name) for name in ("rows", "drafts", "screen", "fit")},
    }


def _rows_line(rows: Rows, task: Task) -> str:
    counts = rows.per_label
    least = min((counts[label] for label in task.labels), default=0)
    return f"{len(rows.examples):,} rows, {len(task.labels)} labels, {least} to {max(counts.values(), default=0)} rows each"


def _less(reasons: Mapping[str, int] | Counter[str | None]) -> str:
    parts = [f"-{count:,} {reason}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])]
    return ": " + ", ".join(parts) if parts else ""
