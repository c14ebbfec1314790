"""What do smaller forms keep of a fine-tuned model: int8, fewer layers, fewer words, a static student, a cascade?

All forms come from one teacher and learn from the same texts. What counts is macro-F1 on test rows, and how many of these get
another label than from the teacher in fp32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.bench import Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.engine.sides import fit_student
from benchmarks.figures import Check, at_least, at_most, figure, markdown
from benchmarks.sets import Sample, read_sample
from refsynth.compress.cascade import certify
from refsynth.compress.export import INT8, TOKENIZER, export_encoder
from refsynth.compress.forms import Teacher, shrink
from refsynth.compress.static import distilled
from refsynth.core.types import FloatArray
from refsynth.kinds.metrics import lead_of, macro_f1, softmax
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.trainer import TrainingRecipe
from refsynth.models.network import TransformerEncoder
from refsynth.models.onnx import OnnxEncoder
from refsynth.models.predict import EncoderPredictor
from refsynth.models.store import ModelStore

BUDGET = 400
TIMED = False
SETS = ("banking77", "snips", "financial_phrasebank", "ag_news_test")
SHOTS, ALL = 64, 10**6
ALPHA, DELTA = 0.02, 0.1
POOL, TEST_ROWS, MAX_TOKENS = 2000, 1000, 128
RATE = 5e-5
TEACHER, INT8_FORM, STATIC, CASCADE = "teacher, fp32", "full, int8", "static", "cascade"
FORMS = {"full": INT8_FORM, "half": "half, int8", "few words": "few words, int8", "half the heads": "half the heads, int8"}
ORDER = (TEACHER, *FORMS.values(), STATIC, CASCADE)


class Size(NamedTuple):
    """How much is measured: sets, labeled rows per class, epochs of the teacher at each, unlabeled texts, test rows."""

    sets: tuple[str, ...]
    shots: Mapping[int, int]
    pool: int
    test_rows: int


WHOLE, QUICK = Size(SETS, {SHOTS: 10, ALL: 3}, POOL, TEST_ROWS), Size(SETS[1:2], {8: 8}, 400, 200)


class Bound(NamedTuple):
    """What a form may lose of the teacher's macro-F1 in points, or must keep of it in percent: the mean over sets counts."""

    name: str
    system: str
    key: str
    bound: float
    aim: float | None = None

    def check(self, found: Sequence[float]) -> Check:
        """Return the check on the mean of what was found."""
        if self.key == "lost":
            return at_most(self.name, figure(found, "points", over="sets"), self.bound)
        return at_least(self.name, figure(found, "%", over="sets"), self.bound, self.aim)


BOUNDS = (
    Bound("P1: macro-F1 lost by int8", INT8_FORM, "lost", 0.5),
    Bound("P4: macro-F1 kept by the static student", STATIC, "kept", 95.0, 98.0),
    Bound("P5: macro-F1 lost by the cascade", CASCADE, "lost", 0.5),
    Bound("macro-F1 kept by half of the layers", FORMS["half"], "kept", 95.0, 98.0),
    Bound("macro-F1 kept by few words", FORMS["few words"], "kept", 97.0, 99.0),
)


def cells(options: Options) -> Iterator[Work]:
    """Yield the sets at each number of labeled rows: all forms of one teacher."""
    size = QUICK if options.quick else WHOLE
    for (shots, epochs), name in product(size.shots.items(), options.parts(SETS, quick=size.sets)):
        yield Work({"set": name, "shots": shots, "seed": 0}, partial(_measure, options.data, name, size, shots, epochs), ORDER)


def _measure(data: Path, name: str, size: Size, shots: int, epochs: int) -> Iterator[Cell]:
    sample, pool = parted(read_sample(data, name, shots=shots, seed=0, test_rows=size.test_rows), data, name, size.pool)
    for one in _forms(sample, pool, epochs):
        yield {**one, "rows": len(sample.train)}


def parted(sample: Sample, data: Path, name: str, most: int) -> tuple[Sample, list[str]]:
    """Return the labeled rows and so many other texts of the training file; a tenth of the rows if all are labeled."""
    if free := sample.unlabeled(data, name):
        return sample, free[:most]
    rows = [sample.train[place] for place in np.random.default_rng(0).permutation(len(sample.train))]
    aside = min(most, len(rows) // 10)
    return Sample(rows[aside:], sample.test, sample.labels), [row["text"] for row in rows[:aside]]


def _forms(sample: Sample, pool: Sequence[str], epochs: int) -> Iterator[Cell]:
    """Yield what each form says of the test rows. Half of the pool teaches, half certifies."""
    labels = tuple(sample.labels)
    network = TransformerEncoder(ModelStore().path("minilm"), max_tokens=MAX_TOKENS)
    rows = sample.examples
    predictor = FinetuneLearner(labels, network, recipe=TrainingRecipe(epochs=epochs, learning_rate=RATE)).fit(rows, (), seed=0)
    assert isinstance(predictor, EncoderPredictor) and isinstance(predictor.encoder, TransformerEncoder)
    teacher = Teacher(predictor, predictor.encoder, rows)
    learned, aside = pool[: len(pool) // 2], pool[len(pool) // 2 :]
    texts = [*(row.text for row in rows), *learned]
    test, truth = sample.texts, sample.truth
    exact = np.asarray(predictor.logits(test)).argmax(1)

    def cell(system: str, logits: FloatArray, megabytes: float | None = None) -> Cell:
        said = logits.argmax(1)
        figures = {"macro_f1": macro_f1(truth, said, len(labels)), "flips": float((said != exact).mean())}
        return {"system": system, **figures, "megabytes": megabytes, "tested": len(test)}

    yield cell(TEACHER, predictor.logits(test), sum(p.numel() for p in predictor.encoder.parameters()) * 4 / 1e6)
    with tempfile.TemporaryDirectory(prefix="refsynth-bench-") as work:
        whole: EncoderPredictor | None = None
        for form, name in FORMS.items():
            folder = Path(work) / form.replace(" ", "-")
            made = shrink(teacher, form, texts, seed=0)
            assert isinstance(made, EncoderPredictor)
            int8, megabytes = _exported(made, folder)
            whole = whole or int8
            yield cell(name, int8.logits(test), megabytes)
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


def table(cells: Cells) -> str:
    """Return the macro-F1 of each form: a column for each set and number of labeled rows."""
    columns = sorted({(SETS.index(one["set"]), one["rows"]) for one in cells.rows if one["set"] in SETS})
    rows = []
    for system in ORDER:
        found = [cells.find(set=SETS[place], rows=n, system=system) for place, n in columns]
        sizes = sorted({f"{some[-1]['megabytes']:.2g}" for some in found if some and some[-1]["megabytes"]}, key=float)
        weight = f", {'-'.join(dict.fromkeys((sizes[0], sizes[-1])))} MB" if sizes else ""
        rows.append([system + weight, *(f"{100 * some[-1]['macro_f1']:.1f}" if some else "" for some in found)])
    answered = [cells.find(set=SETS[place], rows=n, system=CASCADE) for place, n in columns]
    rows.append(["of which static answers", *(f"{some[-1]['answered']:.0%}" if some else "" for some in answered)])
    return markdown(["labeled rows", *(f"{SETS[place]}, {n:,}" for place, n in columns)], rows)


def checks(cells: Cells) -> list[Check]:
    """Return what forms lose and keep of their teacher, the mean over sets."""
    found: dict[tuple[str, str], list[float]] = {}
    for one in cells.rows:
        for whole in cells.find(set=one["set"], shots=one["shots"], version=one["version"], system=TEACHER)[:1]:
            found.setdefault((one["system"], "lost"), []).append(100 * (whole["macro_f1"] - one["macro_f1"]))
            found.setdefault((one["system"], "kept"), []).append(100 * one["macro_f1"] / max(whole["macro_f1"], 1e-9))
    return [bound.check(found.get((bound.system, bound.key), [])) for bound in BOUNDS]
