"""What smaller forms keep of a fine-tuned model: int8, fewer layers, fewer words, a static student, a cascade.

All forms come from one teacher and learn from the same texts. What counts is macro-F1 on test rows, and how many of these get
another label than from the teacher in fp32.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.engine.sides import fit_student
from benchmarks.sets import Sample, read_sample
from refsynth.compress.cascade import certify
from refsynth.compress.export import INT8, TOKENIZER, export_encoder
from refsynth.compress.static import distilled
from refsynth.core.machine import describe_machine
from refsynth.core.types import Example, FloatArray
from refsynth.metrics import lead_of, macro_f1, softmax
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.predict import EncoderPredictor
from refsynth.models.store import ModelStore
from refsynth.pipeline.forms import Teacher, shrink
from refsynth.training.finetune import FinetuneLearner
from refsynth.training.trainer import Recipe

SETS = ("banking77", "snips", "financial_phrasebank", "ag_news_test")
SHOTS, ALL = 64, 10**6
ALPHA, DELTA = 0.02, 0.1
POOL, TEST_ROWS, MAX_TOKENS = 2000, 1000, 128
RATE = 5e-5
TEACHER, INT8_FORM, STATIC, CASCADE = "teacher, fp32", "full, int8", "static", "cascade"
FORMS = {"full": INT8_FORM, "half": "half, int8", "few words": "few words, int8", "half the heads": "half the heads, int8"}
ORDER = (TEACHER, *FORMS.values(), STATIC, CASCADE)


class Size(NamedTuple):
    """How much is measured: sets, labelled rows per class, epochs of the teacher at each, unlabelled texts, test rows."""

    sets: tuple[str, ...]
    shots: Mapping[int, int]
    pool: int
    test_rows: int


WHOLE, QUICK = Size(SETS, {SHOTS: 10, ALL: 3}, POOL, TEST_ROWS), Size(SETS[1:2], {8: 8}, 400, 200)


class Bound(NamedTuple):
    """What a form may lose of the teacher's macro-F1 in points, or must keep of it in percent: the worst set counts."""

    name: str
    system: str
    key: str
    bound: float
    aim: float | None = None


BOUNDS = (
    Bound("P1: macro-F1 lost by int8", INT8_FORM, "lost", 0.5),
    Bound("P4: macro-F1 kept by the static student", STATIC, "kept", 95.0, 98.0),
    Bound("P5: macro-F1 lost by the cascade", CASCADE, "lost", 0.5),
    Bound("macro-F1 kept by half of the layers", FORMS["half"], "kept", 95.0, 98.0),
    Bound("macro-F1 kept by few words", FORMS["few words"], "kept", 97.0, 99.0),
)


def measure(data: Path, results: Path, *, version: str, quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure the sets that are missing, and return all cells."""
    cells = Cells(results / "distill.jsonl")
    size = QUICK if quick else WHOLE
    for shots, epochs in size.shots.items():
        for name in size.sets:
            key = {"set": name, "shots": shots, "seed": 0, "version": version}
            missing = {system for system in ORDER if not cells.find(**key, system=system)}
            if not missing:
                continue
            sample = read_sample(data, name, shots=shots, seed=0, test_rows=size.test_rows)
            sample, pool = _parted(data / name, sample, size.pool)
            for cell in _forms(sample, pool, epochs, missing):
                if cell["system"] in missing:
                    cells.add({**key, **cell, "rows": len(sample.train), "machine": describe_machine()})
                    say(f"{name}, {len(sample.train)} rows, {cell['system']}: {100 * cell['macro_f1']:.1f}")
    return cells


def _parted(folder: Path, sample: Sample, most: int) -> tuple[Sample, list[str]]:
    """Return the labelled rows and so many other texts of the training file; a tenth of the rows if all are labelled."""
    known = {row["text"] for row in sample.train}
    with (folder / "train.jsonl").open(encoding="utf-8") as stream:
        free = [text for line in stream if (text := json.loads(line)["text"]) not in known]
    rng = np.random.default_rng(0)
    if free:
        return sample, [free[place] for place in rng.permutation(len(free))[:most]]
    rows = [sample.train[place] for place in rng.permutation(len(sample.train))]
    aside = min(most, len(rows) // 10)
    return Sample(rows[aside:], sample.test, sample.labels), [row["text"] for row in rows[:aside]]


def _forms(sample: Sample, pool: Sequence[str], epochs: int, missing: Set[str]) -> Iterator[Cell]:
    """Yield what each missing form says of the test rows, and those it comes from. Half of the pool teaches, half certifies."""
    labels = tuple(sample.labels)
    network = TransformerEncoder(ModelStore().path("minilm"), max_tokens=MAX_TOKENS)
    rows = [Example(f"row-{number}", row["text"], row["label"]) for number, row in enumerate(sample.train)]
    predictor = FinetuneLearner(labels, network, recipe=Recipe(epochs=epochs, rate=RATE)).fit(rows, (), seed=0)
    assert isinstance(predictor, EncoderPredictor) and isinstance(predictor.encoder, TransformerEncoder)
    teacher = Teacher(predictor, predictor.encoder, rows)
    learnt, aside = pool[: len(pool) // 2], pool[len(pool) // 2 :]
    texts = [*(row.text for row in rows), *learnt]
    test, truth = [row["text"] for row in sample.test], sample.classes(sample.test)
    exact = np.asarray(predictor.logits(test)).argmax(1)

    def cell(system: str, logits: FloatArray, megabytes: float | None = None) -> Cell:
        said = logits.argmax(1)
        figures = {"macro_f1": macro_f1(truth, said, len(labels)), "flips": float((said != exact).mean())}
        return {"system": system, **figures, "megabytes": megabytes, "tested": len(test)}

    yield cell(TEACHER, predictor.logits(test), sum(p.numel() for p in predictor.encoder.parameters()) * 4 / 1e6)
    with tempfile.TemporaryDirectory(prefix="refsynth-bench-") as work:
        whole: EncoderPredictor | None = None
        for form, name in FORMS.items():
            if name != INT8_FORM and name not in missing:
                continue
            folder = Path(work) / form.replace(" ", "-")
            made = shrink(teacher, form, texts, seed=0)
            assert isinstance(made, EncoderPredictor)
            int8, megabytes = _exported(made, folder)
            whole = whole or int8
            yield cell(name, int8.logits(test), megabytes)
        if not missing & {STATIC, CASCADE}:
            return
        assert whole is not None
        tokenizer = Path(work) / "full" / "onnx" / TOKENIZER
        student = fit_student(whole, predictor.encoder, distilled(predictor.encoder), tokenizer, texts)
        said = np.asarray(student.logits(test), float)
        yield cell(STATIC, said, student.head.weights.size * 2 / 1e6)
        sure = softmax(np.asarray(student.logits(aside), float))
        found = certify(lead_of(sure), sure.argmax(1) != whole.logits(aside).argmax(1), alpha=ALPHA, delta=DELTA)
        answers = lead_of(softmax(said)) >= (2.0 if found is None else found.threshold)
        joined = np.where(answers[:, None], said, whole.logits(test))
        share = {"answered": float(answers.mean()), "certified": found is not None}
        yield cell(CASCADE, joined) | share


def _exported(predictor: EncoderPredictor, work: Path) -> tuple[EncoderPredictor, float]:
    """Return a form in int8, and its megabytes."""
    encoder = predictor.encoder
    assert isinstance(encoder, TransformerEncoder)
    encoder.save(work / "source")
    written = export_encoder(encoder.transformer, work / "source" / TOKENIZER, work / "onnx")
    int8 = OnnxEncoder(work / "onnx" / INT8, work / "onnx" / TOKENIZER, max_tokens=encoder.max_tokens)
    return EncoderPredictor(predictor.labels, int8, predictor.head), written.size / 1e6


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table, and the checks: of each figure the mean over sets."""
    lines = ["| set | rows | form | macro-F1 | other label than fp32 | MB |", "|---" * 6 + "|"]
    kept: dict[tuple[str, str], list[float]] = {}
    for cell in cells.rows:
        size = "" if cell["megabytes"] is None else f"{cell['megabytes']:.1f}"
        share = f" (static answers {cell['answered']:.0%})" if "answered" in cell else ""
        figures = f"{100 * cell['macro_f1']:.1f} | {100 * cell['flips']:.1f}% | {size}"
        lines.append(f"| {cell['set']} | {cell['rows']} | {cell['system']}{share} | {figures} |")
        whole = cells.find(set=cell["set"], shots=cell["shots"], version=cell["version"], system=TEACHER)
        if whole:
            kept.setdefault((cell["system"], "lost"), []).append(100 * (whole[0]["macro_f1"] - cell["macro_f1"]))
            kept.setdefault((cell["system"], "kept"), []).append(100 * cell["macro_f1"] / max(whole[0]["macro_f1"], 1e-9))
    checks = [_checked(bound, kept.get((bound.system, bound.key), ())) for bound in BOUNDS]
    return {"name": "distill", "machine": describe_machine(), "rows": cells.rows, "checks": checks, "table": "\n".join(lines)}


def _checked(bound: Bound, found: Sequence[float]) -> dict[str, Any]:
    value = mean(found) if found else float("nan")
    if bound.key == "lost":
        return {
            "name": bound.name,
            "value": value,
            "unit": "points",
            "n": len(found),
            "limit": bound.bound,
            "ok": value <= bound.bound,
        }
    limits = {"floor": bound.bound, "aim": bound.aim}
    return {"name": bound.name, "value": value, "unit": "%", "n": len(found), **limits, "ok": value >= bound.bound}
