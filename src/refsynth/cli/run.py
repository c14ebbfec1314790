"""`refsynth run`: the whole pipeline, resumable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from refsynth.cli.screen import Json, command, err, out, print_json
from refsynth.cli.watch import Printer
from refsynth.core.errors import GateError, counted

if TYPE_CHECKING:
    from refsynth.compress.contract import ContractOutcome, ModelVariant
    from refsynth.core.task import Task
    from refsynth.pipeline.flow import RunResult

INTERRUPTED = 130


def run(
    task: Annotated[Path, Argument(help="A task.yaml, as `refsynth init` writes it.")],
    folder: Annotated[Path, Option("--out", help="The run folder. A run that was interrupted there is continued.")],
    overrides: Annotated[list[str] | None, Option("--set", help="Override one value: synthesis.drafts=4000")] = None,
    search: Annotated[float | None, Option(help="Minutes of hyper-parameter search for fine-tuned learners; 0: none.")] = None,
    seed: Annotated[int | None, Option("--seed", help="Override the seed of task.yaml.")] = None,
    skip_bad: Annotated[bool, Option("--skip-bad-rows", help="Leave unusable rows out and list them.")] = False,
    as_json: Json = False,
) -> None:
    """Make a bundle and a report from labeled rows, or from label names alone.

    Example: refsynth run tickets/task.yaml --out runs/tickets --set synthesis.drafts=2000
    """
    from refsynth.core.task import Task

    options = {"seed": seed, "search.minutes": search}
    changes = [*(overrides or ()), *(f"{key}={value}" for key, value in options.items() if value is not None)]
    execute(Task.load(task, tuple(changes)), folder, skip_bad=skip_bad, as_json=as_json)


def execute(task: Task, folder: Path, *, skip_bad: bool, as_json: bool) -> None:
    """Run a task and print its results."""
    from refsynth.cli.table import show_systems
    from refsynth.data.source import WORKBOOKS
    from refsynth.evaluation.heldout import FILE as HELD_OUT
    from refsynth.pipeline.flow import run as run_task

    labels = counted(len(task.labels), "label")
    err.print(f"refsynth run: {labels} -> {folder}   (offline but for a reference endpoint, if task.yaml names one)")
    with interruptible():
        result = run_task(task, folder, watch=Printer(), skip_bad=skip_bad)
    if as_json:
        print_json(_summary(result))
    else:
        show_systems(out, result.report)
        out.print(f"report: {result.paths.html}", markup=False)
        if mistakes := result.report.mistakes:
            count = f"{mistakes.wrong:,} of {counted(mistakes.n, 'held-out row')}"
            out.print(f"wrong rows: {result.paths.html.with_name(HELD_OUT)} ({count})", markup=False)
        suffix = ".xlsx" if task.train is not None and task.train.suffix.lower() in WORKBOOKS else ".csv"
        out.print(f"next: {command('predict', folder, f'new{suffix}', '--out', f'scored{suffix}')}", markup=False)
    _check_contract(result)


@contextmanager
def interruptible() -> Iterator[None]:
    """Exit with 130 if the user interrupts the block. Its finished steps are kept."""
    try:
        yield
    except KeyboardInterrupt:
        err.print("stopped; finished steps are kept. Run the same command to go on.")
        raise typer.Exit(INTERRUPTED) from None


def _check_contract(result: RunResult) -> None:
    """Refuse a bundle that is only the variant nearest to the contract."""
    outcome = result.evidence.shrunk.outcome
    if outcome is not None and not outcome.met and result.report.compression:
        raise GateError(
            f"no variant of the model keeps the contract ({result.report.compression.asked})",
            known=f"the bundle holds the nearest, {outcome.shipped}",
            remedy="use it as it is, or ask for less under contract in task.yaml; the report lists all variants",
        )


def _summary(result: RunResult) -> dict[str, Any]:
    from refsynth.evaluation.headline import verdict

    decision, results = result.evidence.learned.decision, result.report.results
    outcome = result.evidence.shrunk.outcome
    return {
        "run": str(result.evidence.folder.path),
        "bundle": str(result.bundle),
        "report": str(result.paths.html),
        "verdict": verdict(result.report),
        "shipped": str(decision.shipped),
        "gain": None if decision.gain is None else asdict(decision.gain),
        "contract": None if outcome is None else _contract(outcome),
        "overlap": None if result.report.overlap is None else asdict(result.report.overlap),
        "systems": [asdict(system) for system in results.systems] if results else [],
    }


def _contract(outcome: ContractOutcome) -> dict[str, Any]:
    checked = {"met": outcome.met, "tried": outcome.tried, "untold": list(outcome.untold)}
    return {**checked, "shipped": _variant(outcome.shipped), "forms": [_variant(variant) for variant in outcome.forms]}


def _variant(variant: ModelVariant) -> dict[str, Any]:
    return {**variant._asdict(), "interval": None if variant.interval is None else variant.interval._asdict()}
