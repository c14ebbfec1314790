"""Few labels: accuracy on the test rows of six data sets with 8 labelled rows per class, ours beside its peers.

A cell is one system on one set and seed. All systems of a cell see the same labelled rows and the same test rows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.bench.cells import Cell, Cells, interval, machine
from refsynth.bench.peers import setfit
from refsynth.bench.sets import Sample, read_sample
from refsynth.core.config import RunConfig
from refsynth.metrics import accuracy, macro_f1
from refsynth.models.catalog import encoder_for
from refsynth.models.store import ModelStore
from refsynth.pipeline.evaluate import SHIPPED
from refsynth.pipeline.steps import run
from refsynth.task import Task

SETS = ("ag_news_test", "financial_phrasebank", "imdb_counterfactual", "snips", "bitext_support", "medical_abstracts_test")
SHOTS = 8
OURS = ("tfidf", "frozen", "real only", "real + synthetic", "shipped")
SYSTEMS = ("tfidf", "frozen", "finetune", "setfit", "real only", "real + synthetic", "shipped")
FLOORS = {"shipped over setfit": 0.0, "worst of shipped over real only": -1.0}
AIMS = {"shipped over setfit": 3.0, "worst of shipped over real only": 0.0}


def measure(
    data: Path, results: Path, *, seeds: int, sets: Sequence[str] | None, quick: bool, say: Callable[[str], None]
) -> Cells:
    """Measure the cells that are missing, and return all."""
    cells = Cells(results)
    rows = 200 if quick else 1000
    for name in sets or SETS:
        for seed in range(seeds):
            sample = read_sample(data, name, shots=SHOTS, seed=seed, test_rows=rows)
            common = {"set": name, "seed": seed, "rows": len(sample.test)}
            for group, systems, package in GROUPS:
                measured = {**common, "version": version(package)}  # a peer is measured anew when the peer changes
                if any(not cells.find(**measured, system=system) for system in systems):
                    for cell in group(sample, name, seed):
                        cells.add({**measured, **cell, "machine": machine()})
                        say(f"{name} seed {seed} {cell['system']}: {100 * cell['accuracy']:.1f} ({cell['seconds']:.0f} s)")
    return cells


def _ours(sample: Sample, name: str, seed: int) -> list[Cell]:
    """Run the pipeline as a user does and read its test result."""
    folder = Path("build") / "bench" / f"{name}-{seed}"
    train, test = sample.write(folder / "data")
    tree = {"language": "auto", "labels": dict(sample.labels), "data": {"train": str(train), "test": str(test)}, "seed": seed}
    started = time.monotonic()
    finished = run(Task.of(RunConfig.parse(tree)), folder / "run").finished
    seconds = time.monotonic() - started
    assert finished.test is not None
    decision = finished.learned.decision
    named = {"tfidf": "tfidf", "frozen": "frozen", "real only": str(decision.real), "shipped": SHIPPED}
    named["real + synthetic"] = str(decision.mixed or decision.real)
    extra = {"gain": None if decision.gain is None else decision.gain.value, "shipped": str(decision.shipped)}
    cells = [
        _cell(system, finished.test.truth, finished.test.predicted[key], seconds, len(sample.labels))
        | (extra if key == SHIPPED else {})
        for system, key in named.items()
    ]
    shutil.rmtree(folder)
    return cells


def _setfit(sample: Sample, name: str, seed: int) -> list[Cell]:
    labels = list(sample.labels)
    classes = np.array([labels.index(row["label"]) for row in sample.train])
    truth = np.array([labels.index(row["label"]) for row in sample.test])
    encoder = ModelStore().path(encoder_for("en").name)
    started = time.monotonic()
    said = setfit(encoder, [row["text"] for row in sample.train], classes, [row["text"] for row in sample.test], seed=seed)
    return [_cell("setfit", truth, said, time.monotonic() - started, len(labels))]


def _finetune(sample: Sample, name: str, seed: int) -> list[Cell]:
    from refsynth.core.types import Example
    from refsynth.pipeline.build import LEARNERS, make_workshop

    labels = tuple(sample.labels)
    truth = np.array([labels.index(row["label"]) for row in sample.test])
    task = Task.of(RunConfig.parse({"labels": dict(sample.labels)}))
    shop = make_workshop(task, "en", ModelStore().path(encoder_for("en").name), max_tokens=128)
    train = [Example(f"row-{i}", row["text"], row["label"]) for i, row in enumerate(sample.train)]
    started = time.monotonic()
    predictor = LEARNERS["finetune"](shop).fit(train, (), seed=seed)
    said = predictor.logits([row["text"] for row in sample.test]).argmax(1)
    return [_cell("finetune", truth, said, time.monotonic() - started, len(labels))]


GROUPS = ((_ours, OURS, "refsynth"), (_setfit, ("setfit",), "setfit"), (_finetune, ("finetune",), "refsynth"))
"""Who measures which systems, and the package whose version the cells belong to."""


def _cell(system: str, truth: Any, said: Any, seconds: float, k: int) -> dict[str, Any]:
    return {
        "system": system,
        "accuracy": accuracy(truth, said),
        "macro_f1": macro_f1(truth, said, k),
        "seconds": round(seconds, 1),
    }


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table of means with intervals over seeds, and the checks against the floors."""
    names = [name for name in SETS if cells.find(set=name)]
    columns = {system: {name: _values(cells, name, system) for name in names} for system in SYSTEMS}
    lines = ["| system | " + " | ".join(names) + " | mean |", "|---" * (len(names) + 2) + "|"]
    for system, by_set in columns.items():
        parts = [_show(values) for values in by_set.values()]
        full = [values for values in by_set.values() if values]
        mean = f"{100 * np.mean([np.mean(values) for values in full]):.1f}" if len(full) == len(names) and full else ""
        lines.append(f"| {system} | " + " | ".join(parts) + f" | {mean} |")
    checks = [_check("shipped over setfit", _gaps(columns, "setfit", names), np.mean)]
    checks.append(_check("worst of shipped over real only", _gaps(columns, "real only", names), np.min))
    return {"name": "fewshot", "machine": machine(), "rows": cells.rows, "checks": checks, "table": "\n".join(lines)}


def _values(cells: Cells, name: str, system: str) -> list[float]:
    return [cell["accuracy"] for cell in sorted(cells.find(set=name, system=system), key=lambda cell: cell["seed"])]


def _gaps(columns: Any, base: str, names: Sequence[str]) -> list[float]:
    """Return, per set, the mean over seeds of shipped minus base, in points."""
    pairs = [(columns["shipped"][name], columns[base][name]) for name in names]
    return [
        100 * float(np.mean(np.array(ours) - np.array(theirs))) for ours, theirs in pairs if ours and len(ours) == len(theirs)
    ]


def _check(name: str, gaps: Sequence[float], statistic: Callable[[Any], float]) -> dict[str, Any]:
    value, low, high = interval(gaps, statistic=statistic) if gaps else (float("nan"),) * 3
    ok = bool(gaps) and value >= FLOORS[name]
    return {
        "name": name,
        "value": value,
        "low": low,
        "high": high,
        "unit": "points",
        "floor": FLOORS[name],
        "aim": AIMS[name],
        "n": len(gaps),
        "ok": ok,
    }


def _show(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean, low, high = interval(values)
    return f"{100 * mean:.1f} [{100 * low:.1f}-{100 * high:.1f}]"
