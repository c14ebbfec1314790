"""The student that answers where speed counts most: what it is, what it is taught, how near it comes to its teacher.

A text's student is a bag of voting tokens, with TF-IDF as its rival; that of words is a CRF. It learns what the finished bundle
says of all texts at hand, and is calibrated by that bundle's probabilities, which stand for the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from safetensors.numpy import load_file, save_file

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.model import Model
from refsynth.compress.static import fit_static, lessons, token_table
from refsynth.core.run import derive_seed, digest, read_json, write_json
from refsynth.core.types import Array, Example, FloatArray, IntArray
from refsynth.core.words import words_of
from refsynth.evaluation.calibration import Threshold, fit_temperature, threshold_of
from refsynth.kinds import as_floats
from refsynth.metrics import softmax
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tokenise import TextTokenizer
from refsynth.pipeline.candidates import Candidate
from refsynth.pipeline.fit import Final
from refsynth.pipeline.job import Job
from refsynth.pipeline.relevant import settings_of
from refsynth.pipeline.stepspecs import STEPS
from refsynth.pipeline.workshop import LEARNERS
from refsynth.quality.filter import kept

DEV, LEAST_DEV = 0.1, 40
"""Share of the student's texts that it is calibrated on, and the fewest that it takes."""

SURE = 1e-15
"""A threshold on a label's probability is at least this far from 0 and 1 where a student's logits are moved to it."""

Fast = TypeVar("Fast", bound=StaticPredictor | TfidfPredictor | CrfPredictor)


class Student(NamedTuple):
    """A calibrated student, how often it and its rival, if it has one, answer `n` texts as the teacher does.

    `kept` is the macro-F1 against the teacher's answers, of the one that comes nearer; `threshold` says how its own was chosen.
    """

    calibration: Calibration
    threshold: Threshold | None
    agreement: float
    rival: float | None
    kept: float
    n: int
    taught: int

    @property
    def loses(self) -> bool:
        """Whether the rival comes nearer."""
        return self.rival is not None and self.rival > self.agreement


@dataclass(frozen=True)
class School:
    """Makes the student of a model.

    Attributes:
        job: the run.
        final: what the model was trained on.
        main: the model's bundle.
        teacher: the same, opened.
    """

    job: Job
    final: Final
    main: Path
    teacher: Model
    _asked: dict[tuple[str, ...], Array] = field(default_factory=dict)

    def student(self) -> Student:
        """Fit the student, or find it in the step cache.

        Raises:
            MissingError: model2vec is not installed.
        """
        extra = {"texts": digest([self.job.pool.texts, self.job.aside])}
        done = self.job.folder.step(STEPS["static"], self._fit, config=settings_of(self.job.task.config), extra=extra)
        facts = read_json(done / "facts.json")
        calibration = Calibration.model_validate(facts["calibration"], strict=False)
        threshold = None if facts["threshold"] is None else Threshold(*facts["threshold"])
        return Student(**{**facts, "calibration": calibration, "threshold": threshold})

    def predictor(self) -> StaticPredictor | CrfPredictor:
        """Return the student as it was fitted."""
        folder = self.job.folder.steps / "static"
        tensors = load_file(folder / "student.safetensors")
        head = LinearHead(tensors["weights"], tensors["bias"])
        if self.teacher.manifest.answers.spans:
            return CrfPredictor(self.teacher.labels, tuple(read_json(folder / "terms.json")), head, tensors["transitions"])
        return StaticPredictor(self.teacher.labels, self._tokenizer(), head)

    def rival(self) -> tuple[TfidfPredictor, Calibration, Threshold | None]:
        """Fit TF-IDF to the teacher's answers of the same texts."""
        taught, dev = self._split()
        fitted = LEARNERS["tfidf"](self.job.shop).fit(self._answered(taught), (), seed=0)
        assert isinstance(fitted, TfidfPredictor)
        return self._calibrated(fitted, dev)

    def kept(self, said: Array, texts: Sequence[str]) -> float:
        """Return the macro-F1 of answers to the texts against the teacher's."""
        return self.teacher.manifest.answers.macro_f1(self._theirs(texts), said, len(self.teacher.labels))

    def disagrees(self, said: Array, texts: Sequence[str]) -> Array:
        """Return whether answers to the texts are other than the teacher's [N]."""
        return np.asarray(self.teacher.manifest.answers.right(self._theirs(texts), said) == 0)

    def answers(self, predictor: Any, calibration: Calibration, texts: Sequence[str]) -> tuple[Array, Array]:
        """Return calibrated probabilities of a predictor, and what it answers by them."""
        kind = self.teacher.manifest.answers
        probabilities = kind.probabilities(as_floats(predictor.logits(texts)) / calibration.temperature)
        return probabilities, self.teacher.decide(probabilities)

    def _fit(self, out: Path) -> None:
        taught, dev = self._split()
        predictor, calibration, threshold = self._calibrated(self._fitted(taught), dev)
        tensors = {"weights": predictor.head.weights, "bias": predictor.head.bias}
        if isinstance(predictor, CrfPredictor):
            write_json(out / "terms.json", list(predictor.terms))
            tensors["transitions"] = predictor.transitions
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, out / "student.safetensors")
        measured = [row.text for row in self.job.aside] or dev
        _, said = self.answers(predictor, calibration, measured)
        agreement, rival, kept = 1 - float(self.disagrees(said, measured).mean()), None, self.kept(said, measured)
        if not isinstance(predictor, CrfPredictor):
            other, fitted, chosen = self.rival()
            _, theirs = self.answers(other, fitted, measured)
            rival = 1 - float(self.disagrees(theirs, measured).mean())
            if rival > agreement:
                threshold, kept = chosen, self.kept(theirs, measured)
        facts = {"agreement": agreement, "rival": rival, "kept": kept, "n": len(measured), "taught": len(taught)}
        write_json(out / "facts.json", {"calibration": calibration.model_dump(mode="json"), "threshold": threshold, **facts})

    def _fitted(self, taught: Sequence[str]) -> StaticPredictor | CrfPredictor:
        kind = self.teacher.manifest.answers
        if kind.spans:
            fitted = LEARNERS["crf"](self.job.shop).fit(self._answered(taught), (), seed=0)
            assert isinstance(fitted, CrfPredictor)
            return fitted
        seed = derive_seed(self.job.task.config.seed, "static")
        pairs = self.teacher.manifest.task == "pairs"
        given = taught if pairs else lessons(taught, seed=seed)  # pieces of two pairs are no pair
        rows, targets = self._tokenizer().encode(given), self._probabilities(given)
        table = token_table(self._final_teacher().encoder)
        head = fit_static(table, rows, targets, texts=len(taught), seed=seed, several=kind.several)
        head = LinearHead(head.weights[: self._tokenizer().size], head.bias)
        return StaticPredictor(self.teacher.labels, self._tokenizer(), head)

    def _calibrated(self, predictor: Fast, dev: Sequence[str]) -> tuple[Fast, Calibration, Threshold | None]:
        """Calibrate by what the teacher holds likely: classes, and whether an answer is right, are drawn from it.

        One bundle has one threshold for each label, by which texts of both tiers are told: logits are moved to the teacher's.
        """
        manifest, logits = self.teacher.manifest, as_floats(predictor.logits(dev))
        kind, bars = manifest.answers, manifest.calibration.thresholds
        found = Calibration(temperature=self._temperature(logits, dev), thresholds=bars)
        own = kind.cuts(logits, self._theirs(dev))
        if own is not None:
            shift = shift_of(own, np.array(bars or [0.5] * len(own)), temperature=found.temperature)
            head = predictor.head
            predictor = replace(predictor, head=LinearHead(head.weights, (head.bias + shift).astype(head.bias.dtype)))
        if not manifest.calibration.threshold:
            return predictor, found, None
        probabilities, said = self.answers(predictor, found, dev)
        rng = np.random.default_rng(derive_seed(self.job.task.config.seed, "right"))
        right = rng.random(len(dev)) < kind.confidence(self._probabilities(dev), said)
        threshold = threshold_of(right, kind.confidence(probabilities, said))
        return predictor, found.model_copy(update={"threshold": threshold.threshold}), threshold

    def _temperature(self, logits: Array, dev: Sequence[str]) -> float:
        kind, theirs = self.teacher.manifest.answers, self._theirs(dev)
        shares = softmax(kind.choices(kind.logits(self._probabilities(dev)), theirs).values)
        drawn = _drawn(shares, seed=derive_seed(self.job.task.config.seed, "drawn"))
        return fit_temperature(kind.choices(logits, theirs).values, drawn)

    def _theirs(self, texts: Sequence[str]) -> Array:
        return self.teacher.decide(self._probabilities(texts))

    def _probabilities(self, texts: Sequence[str]) -> Array:
        """Return what the teacher says of texts, which it reads once."""
        if (key := tuple(texts)) not in self._asked:
            self._asked[key] = self.teacher.probabilities(texts)
        return self._asked[key]

    def _answered(self, texts: Sequence[str]) -> list[Example]:
        """Return texts with the teacher's answers as their labels."""
        kind, labels = self.teacher.manifest.answers, self.teacher.labels
        said = [kind.shown(answer, labels) for answer in self._theirs(texts)]
        return [Example(f"taught-{i}", text, label) for i, (text, label) in enumerate(zip(texts, said, strict=True))]

    def _split(self) -> tuple[list[str], list[str]]:
        """Return the texts to teach and those to calibrate on, which the teacher has not learnt from where there are enough."""
        known = [example.text for example in (*self.final.real, *kept(self.final.drafts))]
        learnt = set(known)
        fresh = [row.text for row in self.job.pool.texts if row.text not in learnt]
        texts = list(dict.fromkeys([*known, *fresh]))
        source = fresh if len(fresh) >= 2 * LEAST_DEV else texts
        size = min(len(source) // 2, max(LEAST_DEV, int(DEV * len(texts))))
        order = np.random.default_rng(derive_seed(self.job.task.config.seed, "dev")).permutation(len(source))
        dev = [source[place] for place in np.sort(order[:size])]
        held = set(dev)
        return self._as_read([text for text in texts if text not in held]), self._as_read(dev)

    def _as_read(self, texts: list[str]) -> list[str]:
        """Return texts up to the last word that a tagger reads: of what comes after, it says nothing that could be learnt."""
        if not self.teacher.manifest.answers.spans:
            return texts
        read = TextTokenizer(self.main / "tokenizer.json", max_tokens=self.teacher.manifest.max_tokens or 0).words(texts)
        ends = (words_of(text)[max(row.words)][1] if row.words else 0 for text, row in zip(texts, read, strict=True))
        return [text[:end] for text, end in zip(texts, ends, strict=True)]

    def _tokenizer(self) -> TextTokenizer:
        return TextTokenizer(self.main / "tokenizer.json", max_tokens=self.teacher.manifest.max_tokens or 0, special=False)

    def _final_teacher(self) -> Any:
        name = str(self.teacher.manifest.lineage["candidate"])
        predictor = self.final.predictors(self.job.shop)[Candidate.named(name)]
        assert isinstance(predictor, EncoderPredictor)
        return predictor


def shift_of(cuts: FloatArray, thresholds: FloatArray, *, temperature: float) -> FloatArray:
    """Return what to add to logits [K], so that what reaches a cut reaches a threshold.

    sigmoid((cut + shift) / temperature) = threshold.
    """
    bars = np.clip(thresholds, SURE, 1 - SURE)
    return np.asarray(temperature * np.log(bars / (1 - bars)) - cuts)


def _drawn(probabilities: FloatArray, *, seed: int) -> IntArray:
    """Return a class for each row [N], drawn by its probabilities [N, K]."""
    rng = np.random.default_rng(seed)
    reached = probabilities.cumsum(1) > rng.random(len(probabilities))[:, None] * probabilities.sum(1, keepdims=True)
    return np.asarray(reached.argmax(1))
