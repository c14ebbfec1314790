"""`refsynth run`: the whole pipeline, resumable."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refsynth.cli.screen import command, err, out, print_json
from refsynth.cli.watch import Printer
from refsynth.core.errors import GateError, counted

if TYPE_CHECKING:
    from refsynth.compress.contract import ContractOutcome, ModelVariant
    from refsynth.core.task import Task
    from refsynth.pipeline.flow import RunResult

INTERRUPTED = 130


def run(
    task: Annotated[Path, typer.Argument(help="A task.yaml, as `refsynth init` writes it.")],
    folder: Annotated[Path, typer.Option("--out", help="The run folder; an interrupted run there is continued.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override one value: synthesis.drafts=4000")] = None,
    search: Annotated[
        float | None, typer.Option(help="Minutes for hyper-parameters of fine-tuned learners; 0 for as task.yaml has them.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Override the seed of task.yaml.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad-rows", help="Leave unusable rows out and list them.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """From labelled rows (or label names alone) to a bundle and a report.

    Example: refsynth run tickets/task.yaml --out runs/tickets --set synthesis.drafts=2000
    """
    from refsynth.core.task import Task

    options = {"seed": seed, "search.minutes": search}
    changes = [*(overrides or ()), *(f"{key}={value}" for key, value in options.items() if value is not None)]
    execute(Task.load(task, tuple(changes)), folder, skip_bad=skip_bad, as_json=as_json)


def execute(task: Task, folder: Path, *, skip_bad: bool, as_json: bool) -> None:
    """Run a task and print what came of it."""
    from refsynth.cli.table import show_systems
    from refsynth.data.source import WORKBOOKS
    from refsynth.evaluation.heldout import FILE as HELD_OUT
    from refsynth.pipeline.flow import run as run_task

    labels = counted(len(task.labels), "label")
    err.print(f"refsynth run: {labels} -> {folder}   (offline but for a reference endpoint, if task.yaml names one)")
    try:
        result = run_task(task, folder, watch=Printer(), skip_bad=skip_bad)
    except KeyboardInterrupt:
        err.print("stopped; what is evidence is kept. Run the same command to go on.")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(_summary(result))
    else:
        show_systems(out, result.report)
        out.print(f"report: {result.paths.html}", markup=False)
        if mistakes := result.report.mistakes:
            found = f"{mistakes.wrong:,} of {counted(mistakes.n, 'held-out row')}"
            out.print(f"wrong rows: {result.paths.html.with_name(HELD_OUT)} ({found})", markup=False)
        suffix = ".xlsx" if task.train is not None and task.train.suffix.lower() in WORKBOOKS else ".csv"
        out.print(f"next: {command('predict', folder, f'new{suffix}', '--out', f'scored{suffix}')}", markup=False)
    _hold_to_contract(result)


def _hold_to_contract(result: RunResult) -> None:
    """End with 3 where the bundle is only the nearest to what was asked for.

    Raises:
        GateError: it is.
    """
    outcome = result.evidence.shrunk.outcome
    if outcome is not None and not outcome.met and result.report.compression:
        raise GateError(
            f"no form of the model keeps the contract ({result.report.compression.asked})",
            known=f"the bundle holds the nearest, {outcome.shipped}",
            remedy="take it as it is, or ask for less under contract in task.yaml; the report has all forms",
        )


def _summary(result: RunResult) -> dict[str, Any]:
    """Return the run's outcome as JSON-ready values."""
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
    """Return what came of a contract as JSON-ready values."""
    told = {"met": outcome.met, "tried": outcome.tried, "untold": list(outcome.untold)}
    return {**told, "shipped": _form(outcome.shipped), "forms": [_form(form) for form in outcome.forms]}


def _form(form: ModelVariant) -> dict[str, Any]:
    return {**form._asdict(), "interval": None if form.interval is None else form.interval._asdict()}
