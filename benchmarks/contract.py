"""Ten contracts, easy to impossible: each is met by what ships, measured again, or refused with the nearest form.

What is asked for is a share of what the model as trained weighs, takes and reaches, so that the contracts are as hard on any
machine. All runs share a folder: rows, drafts, folds and forms are made once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.cells import Cell, Cells
from benchmarks.pool import BENCH
from benchmarks.sets import Sample, read_sample
from refsynth.bundle.model import load
from refsynth.compress.contract import Contract, Form, excess
from refsynth.core.config import RunConfig
from refsynth.core.machine import describe_machine
from refsynth.pipeline.compression import size_of
from refsynth.pipeline.shrink import latencies
from refsynth.pipeline.steps import RunResult, run
from refsynth.task import Task

SET, SHOTS, QUICK_SHOTS = "snips", 16, 4
TEXTS = 40
SLACK = 1.5
"""Times the asked latency that a second measurement may take: the machine is not alone."""


class Wish(NamedTuple):
    """A contract by shares of what the model as trained takes and weighs, and whether anything can meet it."""

    name: str
    p50: float | None = None
    size: float | None = None
    keep: float | None = None
    can: bool | None = None
    """Known beforehand: True or False; None where it depends on the machine and the rows."""


WISHES = (
    Wish("anything", p50=20, size=3, can=True),
    Wish("most of the quality", keep=0.5, can=True),
    Wish("three quarters of the size", size=0.75, can=True),
    Wish("half of the size", size=0.5, can=True),
    Wish("half of the size, 90% of the quality", size=0.5, keep=0.9),
    Wish("two thirds of the time, 95%", p50=0.67, keep=0.95),
    Wish("half of the time, half of the size, 98%", p50=0.5, size=0.5, keep=0.98),
    Wish("a third of the time, a quarter of the size, 99%", p50=0.33, size=0.25, keep=0.99),
    Wish("a thousandth of the size", size=0.001, can=False),
    Wish("no time at all", p50=0.0001, keep=0.9, can=False),
)
QUICK_WISHES = (WISHES[0], WISHES[3], WISHES[8])


def measure(data: Path, results: Path, *, version: str, quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure the contracts that are missing, and return all cells."""
    cells = Cells(results / "contract.jsonl", machine=describe_machine())
    wanted = QUICK_WISHES if quick else WISHES
    missing = [wish for wish in wanted if not cells.find(system=wish.name, version=version, quick=quick)]
    if not missing:
        return cells
    shots = QUICK_SHOTS if quick else SHOTS
    sample = read_sample(data, SET, shots=shots, seed=0, test_rows=100)
    folder = BENCH / f"contract-{shots}"
    shutil.rmtree(folder, ignore_errors=True)
    full = _full(_run(sample, folder, Contract(size_mb=1e6), quick=quick))
    for wish in missing:
        asked = Contract(
            None if wish.p50 is None else wish.p50 * full.p50_ms,
            None if wish.size is None else wish.size * full.size_mb,
            wish.keep,
        )
        cell = _judged(wish, asked, _run(sample, folder, asked, quick=quick))
        cells.add({"set": SET, "system": wish.name, "version": version, "quick": quick, **cell, "machine": describe_machine()})
        say(f"{wish.name}: {'met' if cell['met'] else 'refused'}, ships {cell['shipped']}")
    shutil.rmtree(folder)
    return cells


def _run(sample: Sample, folder: Path, asked: Contract, *, quick: bool) -> RunResult:
    train, _ = sample.write(folder / "data")
    tree = {
        "labels": dict(sample.labels),
        "data": {"train": str(train)},
        "synthesis": {"drafts": 0},
        "learners": ["tfidf", "frozen"] if quick else ["tfidf", "contrastive"],
        "gate": {"folds": 2 if quick else 4},
        "contract": {name: value for name, value in asked._asdict().items() if value is not None},
    }
    return run(Task.of(RunConfig.parse(tree)), folder / "run")


def _full(result: RunResult) -> Form:
    outcome = result.finished.shrunk.outcome
    assert outcome is not None
    return next((form for form in outcome.forms if form.name == "full"), outcome.forms[0])


def _judged(wish: Wish, asked: Contract, result: RunResult) -> Cell:
    """Return what shipped, measured again, and whether the verdict was right."""
    outcome = result.finished.shrunk.outcome
    assert outcome is not None
    texts = [row.text for row in result.finished.learned.final.real][:TEXTS]
    again = Form(
        outcome.shipped.name,
        size_of(result.bundle),
        latencies({"it": load(result.bundle)}, texts)["it"] / SLACK,
        outcome.shipped.kept,
    )
    better = [form.name for form in outcome.forms if excess(asked, form) < excess(asked, outcome.shipped)]
    right = outcome.met == (excess(asked, again) <= 1) if outcome.met else not [n for n in better if _known(outcome.forms, n)]
    return {
        "asked": asked._asdict(),
        "met": outcome.met,
        "shipped": str(outcome.shipped),
        "again": again._asdict(),
        "expected": wish.can,
        "right": bool(right) and (wish.can is None or wish.can == outcome.met),
        "forms": [form._asdict() for form in outcome.forms],
    }


def _known(forms: tuple[Form, ...], name: str) -> bool:
    return next(form for form in forms if form.name == name).kept is not None


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table and the checks."""
    lines = ["| contract | asked | verdict | ships | as asked |", "|---" * 5 + "|"]
    for cell in cells.rows:
        verdict = "met" if cell["met"] else "refused"
        asked = Contract(**cell["asked"])
        lines.append(f"| {cell['system']} | {asked} | {verdict} | {cell['shipped']} | {'yes' if cell['right'] else 'NO'} |")
    right = sum(cell["right"] for cell in cells.rows)
    share = 100 * right / len(cells.rows) if cells.rows else float("nan")
    check = {"name": "contracts met, or refused with the nearest", "value": share, "unit": "%", "floor": 100.0, "aim": 100.0}
    checks = [{**check, "n": len(cells.rows), "ok": share == 100.0}]
    return {"name": "contract", "machine": describe_machine(), "rows": cells.rows, "checks": checks, "table": "\n".join(lines)}
