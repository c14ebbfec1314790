"""Is a contract kept? Ten, easy to impossible: met by what ships, measured again, or refused with the nearest form.

What is asked for is a share of what the model as trained weighs, takes and reaches, so that the contracts are as hard on any
machine. All runs share a folder: rows, drafts, folds and forms are made once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench import BUILD, Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_least, figure, markdown
from benchmarks.sets import Sample, read_sample
from refsynth.bundle.model import load
from refsynth.compress.contract import Contract, ModelVariant, excess
from refsynth.compress.shrink import latencies
from refsynth.core.config import RunConfig
from refsynth.core.files import size_of
from refsynth.core.task import Task
from refsynth.pipeline.flow import RunResult, run

BUDGET = 60
TIMED = True
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


def cells(options: Options) -> Iterator[Work]:
    """Yield the contracts; they share a folder, and the model as trained, which is made first."""
    options.parts((SET,))
    shots = QUICK_SHOTS if options.quick else SHOTS
    folder = BUILD / f"contract-{shots}"

    @cache
    def sample() -> Sample:
        shutil.rmtree(folder, ignore_errors=True)
        return read_sample(options.data, SET, shots=shots, seed=0, test_rows=100)

    @cache
    def full() -> ModelVariant:
        return _full(_run(sample(), folder, Contract(size_mb=1e6), quick=options.quick))

    def measure(wish: Wish) -> list[Cell]:
        whole = full()
        pairs = (wish.p50, whole.p50_ms), (wish.size, whole.size_mb)
        p50, size = (None if share is None else share * of for share, of in pairs)
        asked = Contract(p50, size, wish.keep)
        return [{"system": wish.name, **_judged(wish, asked, _run(sample(), folder, asked, quick=options.quick))}]

    for wish in QUICK_WISHES if options.quick else WISHES:
        yield Work({"set": SET, "quick": options.quick}, partial(measure, wish), (wish.name,))
    shutil.rmtree(folder, ignore_errors=True)


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


def _full(result: RunResult) -> ModelVariant:
    outcome = result.evidence.shrunk.outcome
    assert outcome is not None
    return next((form for form in outcome.forms if form.name == "full"), outcome.forms[0])


def _judged(wish: Wish, asked: Contract, result: RunResult) -> Cell:
    """Return what shipped, measured again, and whether the verdict was right."""
    outcome = result.evidence.shrunk.outcome
    assert outcome is not None
    texts = [row.text for row in result.evidence.learned.final.real][:TEXTS]
    p50 = latencies({"it": load(result.bundle)}, texts)["it"] / SLACK
    again = ModelVariant(outcome.shipped.name, size_of(result.bundle), p50, outcome.shipped.kept)
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


def _known(forms: tuple[ModelVariant, ...], name: str) -> bool:
    return next(form for form in forms if form.name == name).kept is not None


def table(cells: Cells) -> str:
    """Return each contract with its verdict."""
    rows = []
    for one in cells.rows:
        verdict, right = ("met" if one["met"] else "refused"), ("yes" if one["right"] else "NO")
        rows.append([one["system"], Contract(**one["asked"]), verdict, one["shipped"], right])
    return markdown(["contract", "asked", "verdict", "ships", "as asked"], rows)


def checks(cells: Cells) -> list[Check]:
    """Return the share of contracts that are judged rightly."""
    share = figure([100.0 * one["right"] for one in cells.rows], "%", over="contracts")
    return [at_least("contracts met, or refused with the nearest", share, 100.0)]
