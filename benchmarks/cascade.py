"""A static student and a cascade against the int8 model they come from: speed, quality, and whether certificates hold."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.cells import Cell, Cells
from benchmarks.pool import BENCH
from benchmarks.sets import Sample, read_sample
from refsynth.bundle.certificate import Certificate, profile_of
from refsynth.bundle.model import Model, load
from refsynth.compress.cascade import certify
from refsynth.core.config import RunConfig
from refsynth.core.machine import describe_machine
from refsynth.core.run import write_jsonl
from refsynth.core.types import FloatArray
from refsynth.metrics import lead_of, macro_f1
from refsynth.pipeline.steps import RunResult, run
from refsynth.task import Task

SETS = ("banking77", "medical_abstracts_test")
SHOTS, QUICK_SHOTS = 64, 16
POOL, QUICK_POOL = 4000, 1600
ALPHA, DELTA = 0.02, 0.1
REPEATS, CALIBRATIONS = 5, 200
DRAWN = 500
"""Texts of one simulated calibration."""


class Check(NamedTuple):
    """A figure with its floor and aim; of `low` figures, the floor is the most that they may be."""

    key: str
    name: str
    unit: str
    floor: float
    aim: float
    low: bool = False


CHECKS = (
    Check("static_speed", "static / int8, texts/s", "x", 30, 60),
    Check("static_kept", "static, share of the model's macro-F1", "%", 95, 98),
    Check("static_tfidf", "static over TF-IDF, macro-F1", "points", 2, 4),
    Check("cascade_speed", "cascade / int8, texts/s", "x", 4, 8),
    Check("cascade_gap", "cascade, macro-F1 lost", "points", 0.5, 0, low=True),
    Check("violations", "simulated calibrations that break alpha", "%", 100 * DELTA, 100 * DELTA, low=True),
    Check("shift", "planted shift voids the certificate", "yes", 1, 1),
)


def measure(data: Path, results: Path, *, version: str, quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure the sets that are missing, and return all cells."""
    cells = Cells(results / "cascade.jsonl", machine=describe_machine())
    for name in SETS[:1] if quick else SETS:
        key = {"set": name, "seed": 0, "shots": QUICK_SHOTS if quick else SHOTS, "system": "cascade", "version": version}
        if not cells.find(**key):
            cells.add({**key, **_measured(data, name, quick=quick), "machine": describe_machine()})
            say(f"{name}: done")
    return cells


def _measured(data: Path, name: str, *, quick: bool) -> Cell:
    shots = QUICK_SHOTS if quick else SHOTS
    sample = read_sample(data, name, shots=shots, seed=0, test_rows=300 if quick else 1000)
    folder = BENCH / f"cascade-{name}-{shots}"
    train, test = sample.write(folder / "data")
    pool = folder / "data" / "pool.jsonl"
    write_jsonl(pool, [{"text": text} for text in _unlabelled(data / name, sample)[: QUICK_POOL if quick else POOL]])
    files = {"train": str(train), "test": str(test), "pool": str(pool)}
    shipped = {tiers: _run(sample, files, folder, tiers) for tiers in ("cascade", "static")}
    cell = _figures(sample, shipped, _strangers(data, name))
    shutil.rmtree(folder)
    return cell


def _unlabelled(folder: Path, sample: Sample) -> list[str]:
    """Return the training texts that are not in the sample, shuffled: the file may be sorted by label."""
    known = {row["text"] for row in sample.train}
    with (folder / "train.jsonl").open(encoding="utf-8") as stream:
        texts = [text for line in stream if (text := json.loads(line)["text"]) not in known]
    return [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]


def _strangers(data: Path, name: str) -> list[str]:
    """Return texts of another set."""
    other = next(one for one in SETS if one != name)
    return [row["text"] for row in read_sample(data, other, shots=1, seed=0, test_rows=300).test]


def _run(sample: Sample, files: Mapping[str, str], folder: Path, tiers: str) -> RunResult:
    """Run with these tiers; the second run finds most steps of the first."""
    tree = {
        "labels": dict(sample.labels),
        "data": files,
        "synthesis": {"drafts": 0},
        "selftrain": {"per_class": 0},
        "learners": ["tfidf", "frozen"],
        "gate": {"folds": 2},
        "compress": {"tiers": tiers, "disagreement": ALPHA, "delta": DELTA},
    }
    result = run(Task.of(RunConfig.parse(tree)), folder / "run")
    kept = folder / tiers
    shutil.copytree(result.bundle, kept)
    return result


def _figures(sample: Sample, shipped: Mapping[str, RunResult], strangers: Sequence[str]) -> Cell:
    finished = shipped["static"].finished
    folder = finished.folder.path.parent
    bundles = {"int8": finished.tiers.main, "static": folder / "static", "cascade": folder / "cascade"}
    models = {name: load(path) for name, path in bundles.items()}
    texts, truth, k = [row["text"] for row in sample.test], sample.classes(sample.test), len(sample.labels)
    said = {name: model.probabilities(texts) for name, model in models.items()}
    f1 = {name: macro_f1(truth, values.argmax(1), k) for name, values in said.items()}
    assert finished.test is not None
    f1["tfidf"] = macro_f1(truth, finished.test.predicted["tfidf"], k)
    # As long as one tier is TF-IDF or ships alone, its figures are what they are, and the cell says so.
    facts = {
        "kinds": {name: model.manifest.kind for name, model in models.items()},
        "shipped": str(finished.learned.decision.shipped),
        "tiers": shipped["cascade"].finished.tiers.line(),
        "student": None if finished.tiers.student is None else finished.tiers.student._asdict() | {"calibration": None},
        "macro_f1": f1,
        "rates": _rates(models, texts),
        "megabytes": {name: sum(p.stat().st_size for p in path.iterdir()) / 1e6 for name, path in bundles.items()},
    }
    certificate = shipped["cascade"].finished.tiers.certificate
    pairs = lead_of(said["static"]), said["static"].argmax(1) != said["int8"].argmax(1)
    return {**facts, **_simulated(*pairs), **_certified(certificate, models, texts, strangers)}


def _rates(models: Mapping[str, Model], texts: Sequence[str]) -> dict[str, list[float]]:
    """Return texts per second, tokenising included, the models in turn."""
    rates: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(REPEATS + 1):
        for name, model in models.items():
            started = time.perf_counter()
            model.probabilities(texts)
            if turn:  # the first warms up
                rates[name].append(len(texts) / (time.perf_counter() - started))
    return rates


def _simulated(confidence: FloatArray, disagrees: NDArray[np.bool_]) -> Cell:
    """Draw calibrations from the measured texts, on which the true disagreement at every threshold is therefore known."""
    rng = np.random.default_rng(0)
    certified = broken = 0
    for _ in range(CALIBRATIONS):
        drawn = rng.integers(0, len(confidence), DRAWN)
        found = certify(confidence[drawn], disagrees[drawn], alpha=ALPHA, delta=DELTA)
        if found is not None:
            certified += 1
            broken += float((disagrees & (confidence >= found.threshold)).mean()) > ALPHA
    return {"calibrations": CALIBRATIONS, "certified": certified, "broken": int(broken)}


def _certified(
    certificate: Certificate | None, models: Mapping[str, Model], texts: Sequence[str], strangers: Sequence[str]
) -> Cell:
    """Return what the cascade does on the test texts, and on as many of which half are of another set."""
    if certificate is None:
        return {"certificate": None}
    half = [*texts[: len(texts) // 2], *strangers[: len(texts) // 2]]
    found: Cell = {"certificate": {**certificate.model_dump(mode="json"), "share": certificate.share}}
    for name, some in (("test", list(texts)), ("shifted", half)):
        answer = models["cascade"].answer(some)
        alone = models["int8"].probabilities(some).argmax(1)
        answered = int((~answer.passed).sum())
        found[name] = {
            "share": answered / len(some),
            "otherwise": float((answer.probabilities.argmax(1) != alone)[~answer.passed].sum() / len(some)),
            "void": certificate.shifted(profile_of(answer.sure, some), len(some)),
        }
    return found


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table, and the checks against their floors: of each figure the worst set."""
    lines = ["| set | labels per class | system | macro-F1 | texts/s [least-most] | MB |", "|---" * 6 + "|"]
    for cell in cells.rows:
        for name, value in cell["macro_f1"].items():
            found = cell["rates"].get(name, ())
            rate = f"{median(found):,.0f} [{min(found):,.0f}-{max(found):,.0f}]" if found else ""
            size = f"{cell['megabytes'][name]:.1f}" if name in cell["rates"] else ""
            lines.append(f"| {cell['set']} | {cell['shots']} | {name} | {100 * value:.1f} | {rate} | {size} |")
    lines += ["", *(f"{cell['set']}: {cell['tiers']}; TF-IDF F1 is of real labels" for cell in cells.rows)]
    figures = [_ratios(cell) for cell in cells.rows]
    checks = [_checked(check, [one[check.key] for one in figures if check.key in one]) for check in CHECKS]
    return {"name": "cascade", "machine": describe_machine(), "rows": cells.rows, "checks": checks, "table": "\n".join(lines)}


def _ratios(cell: Cell) -> dict[str, float]:
    f1, rates = cell["macro_f1"], cell["rates"]

    def faster(name: str) -> float:
        return float(median(mine / theirs for mine, theirs in zip(rates[name], rates["int8"], strict=True)))

    found = {"violations": 100 * cell["broken"] / cell["calibrations"]}
    if cell["kinds"]["static"] == "static":
        found["static_speed"], found["static_kept"] = faster("static"), 100 * f1["static"] / f1["int8"]
        found["static_tfidf"] = 100 * (f1["static"] - f1["tfidf"])
    if cell["certificate"]:
        found["cascade_speed"], found["cascade_gap"] = faster("cascade"), 100 * (f1["int8"] - f1["cascade"])
        found["shift"] = float(cell["shifted"]["void"])
    return found


def _checked(check: Check, values: Sequence[float]) -> dict[str, Any]:
    """Return a check; where nothing could be measured it is not met."""
    value = (max if check.low else min)(values, default=float("nan"))
    met = bool(values) and (value <= check.floor if check.low else value >= check.floor)
    bound = {"limit": check.floor} if check.low else {"floor": check.floor, "aim": check.aim}
    return {"name": check.name, "value": value, "unit": check.unit, "n": len(values), "ok": met, **bound}
