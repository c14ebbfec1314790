"""Does the certificate of a cascade hold: in simulated calibrations, on test texts, and does a planted shift void it?

What the tiers are worth is measured elsewhere: their speed and size by `serve-core`, what they keep of macro-F1 by `distill`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import BUILD, Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_least, at_most, figure, markdown
from benchmarks.sets import Sample, read_sample
from refsynth.bundle.certificate import Certificate, profile_of
from refsynth.bundle.model import Model, load
from refsynth.compress.cascade import certify
from refsynth.core.config import RunConfig
from refsynth.core.files import write_jsonl
from refsynth.core.task import Task
from refsynth.core.types import FloatArray
from refsynth.pipeline.flow import RunResult, run

BUDGET = 40
TIMED = False
SETS = ("banking77", "medical_abstracts_test")
SHOTS, QUICK_SHOTS = 64, 16
POOL, QUICK_POOL = 4000, 1600
ALPHA, DELTA = 0.02, 0.1
CALIBRATIONS, DRAWN = 200, 500
"""Simulated calibrations, and the texts of each."""


def cells(options: Options) -> Iterator[Work]:
    """Yield the sets."""
    for name in options.parts(SETS, quick=SETS[:1]):
        key = {"set": name, "seed": 0, "shots": QUICK_SHOTS if options.quick else SHOTS}
        yield Work(key, partial(_measured, options, name), ("cascade",))


def _measured(options: Options, name: str) -> list[Cell]:
    shots, rows, most = (QUICK_SHOTS, 300, QUICK_POOL) if options.quick else (SHOTS, 1000, POOL)
    sample = read_sample(options.data, name, shots=shots, seed=0, test_rows=rows)
    folder = BUILD / f"cascade-{name}-{shots}"
    train, test = sample.write(folder / "data")
    pool = folder / "data" / "pool.jsonl"
    write_jsonl(pool, [{"text": text} for text in sample.unlabeled(options.data, name)[:most]])
    tree = {
        "labels": dict(sample.labels),
        "data": {"train": str(train), "test": str(test), "pool": str(pool)},
        "synthesis": {"drafts": 0},
        "selftrain": {"per_class": 0},
        "learners": ["tfidf", "frozen"],
        "gate": {"folds": 2},
        "compress": {"tiers": "cascade", "disagreement": ALPHA, "delta": DELTA},
    }
    shipped = run(Task.of(RunConfig.parse(tree)), folder / "run")
    other = next(one for one in SETS if one != name)
    strangers = read_sample(options.data, other, shots=1, seed=0, test_rows=300).texts
    cell = {"system": "cascade", **_figures(sample, shipped, strangers)}
    shutil.rmtree(folder)
    return [cell]


def _figures(sample: Sample, shipped: RunResult, strangers: Sequence[str]) -> Cell:
    evidence = shipped.evidence
    models = {"int8": load(evidence.tiers.main), "cascade": load(shipped.bundle)}
    # Where the student is TF-IDF or ships alone its figures are what they are, and the cell says so.
    facts = {"shipped": str(evidence.learned.decision.shipped), "tiers": evidence.tiers.line()}
    certificate = evidence.tiers.certificate
    if certificate is None:
        return {**facts, "certificate": None, "calibrations": 0, "broken": 0}
    said = models["cascade"].answer(sample.texts, shallow=True)
    disagrees = said.probabilities.argmax(1) != models["int8"].probabilities(sample.texts).argmax(1)
    return {**facts, **_simulated(said.exit_confidence, disagrees), **_certified(certificate, models, sample.texts, strangers)}


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


def _certified(certificate: Certificate, models: Mapping[str, Model], texts: Sequence[str], strangers: Sequence[str]) -> Cell:
    """Return what the cascade does on the test texts, and on as many of which half are of another set."""
    half = [*texts[: len(texts) // 2], *strangers[: len(texts) // 2]]
    found: Cell = {"certificate": {**certificate.model_dump(mode="json"), "share": certificate.share}}
    for name, some in (("test", list(texts)), ("shifted", half)):
        answer = models["cascade"].answer(some)
        alone = models["int8"].probabilities(some).argmax(1)
        answered = int((~answer.passed).sum())
        found[name] = {
            "share": answered / len(some),
            "otherwise": float((answer.probabilities.argmax(1) != alone)[~answer.passed].sum() / len(some)),
            "void": certificate.shifted(profile_of(answer.exit_confidence, some), len(some)),
        }
    return found


def table(cells: Cells) -> str:
    """Return what each cascade was certified for, and what it did."""
    head = ["set", "labels per class", "tiers", "calibrations that break alpha", "static answers", "otherwise than int8"]
    rows = []
    for cell in cells.rows:
        test = cell.get("test", {})
        done = [f"{100 * test[key]:.1f}%" for key in ("share", "otherwise") if test] or ["", ""]
        void = "yes" if cell.get("shifted", {}).get("void") else "no"
        rows.append([cell["set"], cell["shots"], cell["tiers"], f"{cell['broken']} of {cell['calibrations']}", *done, void])
    return markdown([*head, "void on a shift"], rows)


def checks(cells: Cells) -> list[Check]:
    """Return the figures of the worst set; what could not be measured is missed."""
    broken = [100 * cell["broken"] / cell["calibrations"] for cell in cells.rows if cell["calibrations"]]
    void = [float(cell["shifted"]["void"]) for cell in cells.rows if cell["certificate"]]
    return [
        at_most("simulated calibrations that break alpha", figure(broken, "%", over="sets", statistic=np.max), 100 * DELTA),
        at_least("planted shift voids the certificate", figure(void, "yes", over="sets", statistic=np.min), 1.0),
    ]
