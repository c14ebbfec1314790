"""Fits, calibrates and measures the student: a fast model that learns from the trained one, its teacher.

The student for texts is a bag of voting tokens, with TF-IDF as its rival; for token classification it is a CRF. It learns the
answers of the teacher's bundle to all available texts, and is calibrated on that bundle's probabilities instead of true labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.files import Files
from refsynth.bundle.model import Model, load
from refsynth.bundle.packing import pack
from refsynth.bundle.store import Contents, TierContents, save
from refsynth.bundle.tiers import open_tier
from refsynth.compress.answers import kept_in, write_answers
from refsynth.compress.drawn import Answers, calibrated
from refsynth.compress.keeping import Kept
from refsynth.compress.static import fit_static, token_table, with_mixtures
from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import derive_seed, digest
from refsynth.core.learners import LearnerName
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Array, Example, kept
from refsynth.core.words import words_of
from refsynth.evaluation.calibration import Threshold
from refsynth.learning.candidates import Candidate
from refsynth.learning.final import Final
from refsynth.learning.job import Job
from refsynth.learning.makers import make_learner
from refsynth.models.crf import CrfPredictor
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tokenizer import TextTokenizer

DEV, LEAST_DEV = 0.1, 40
"""The share of the student's texts that calibrate it, and the smallest number of them."""

STUDENT, RIVAL = "student", "rival"
"""The folders of the bundles in the step."""

Fast = StaticPredictor | TfidfPredictor | CrfPredictor


class Student(NamedTuple):
    """A calibrated student and its measurements.

    Attributes:
        calibration: that of the student or, if it loses, of the rival.
        threshold: the threshold for being unsure of the same one.
        agreement: how often the student answers as the teacher does on texts that neither has learned from; None without any.
        rival: the same for the rival; None also without a rival.
        n: the number of those texts.
        taught: the number of texts that the student learned from.
        loses: whether the rival agrees more often.
        fresh: whether the teacher has not learned from the texts that calibrated the student.
    """

    calibration: Calibration
    threshold: Threshold | None
    agreement: float | None
    rival: float | None
    n: int
    taught: int
    loses: bool
    fresh: bool

    @property
    def nearest(self) -> float | None:
        """The agreement of the student or the rival, whichever is higher."""
        return self.rival if self.loses else self.agreement


class StudentTexts(NamedTuple):
    """The texts to learn from, those to calibrate on, and whether the teacher has not learned from the latter."""

    taught: list[str]
    dev: list[str]
    fresh: bool


@dataclass(frozen=True)
class StudentMaker:
    """Makes the student of a model.

    Attributes:
        job: the run.
        final: the final fit.
        shipped: the candidate that the model is.
        main: the model's bundle.
        teacher: the same bundle, opened.
    """

    job: Job
    final: Final
    shipped: Candidate
    main: Path
    teacher: Model
    _cache: dict[tuple[str, ...], Array] = field(default_factory=dict)

    def student(self) -> Student:
        """Return the student, fitted or from the step cache.

        Raises:
            MissingError: model2vec is not installed.
        """
        extra = {"texts": digest([self.job.pool.texts, self.job.pool.reserved])}
        done = self.job.folder.step(STEPS["student"], self._fit, config=settings_of(self.job.task.config), extra=extra)
        facts = read_json(done / "facts.json")
        calibration = Calibration.model_validate(facts["calibration"], strict=False)
        threshold = None if facts["threshold"] is None else Threshold(*facts["threshold"])
        return Student(**{**facts, "calibration": calibration, "threshold": threshold})

    def bundle(self, *, rival: bool = False) -> Path:
        """Return the bundle of the fitted student, or of its rival."""
        return self.job.folder.steps / "student" / (RIVAL if rival else STUDENT)

    def predictor(self) -> tuple[StaticPredictor | CrfPredictor, Calibration]:
        """Return the student and its calibration from its bundle, for a cascade."""
        files = Files(self.bundle())
        predictor = open_tier(files, 0, 0).predictor
        assert isinstance(predictor, (StaticPredictor, CrfPredictor))
        return predictor, files.manifest.calibration

    def _fit(self, out: Path) -> None:
        split = self._split()
        threshold = self._write(out / STUDENT, self._fitted(split.taught), split.dev)
        held = [row.text for row in self.job.pool.reserved]
        teacher = self._answers(held or split.dev)
        student = load(out / STUDENT).answer(held or split.dev).answers
        agreement, rival, loses = self._agreement(teacher, student), None, False
        if not self.teacher.manifest.answers.words:
            rivals = self._write(out / RIVAL, self._learner("tfidf", split.taught), split.dev)
            others = load(out / RIVAL).answer(held or split.dev).answers
            rival = self._agreement(teacher, others)
            if loses := rival > agreement:
                threshold, student = rivals, others
        if held:  # agreement on texts that either has learned from measures nothing
            write_answers(out, teacher=teacher, student=student)
        facts = {
            "agreement": agreement if held else None,
            "rival": rival if held else None,
            "calibration": load(out / (RIVAL if loses else STUDENT)).manifest.calibration.model_dump(mode="json"),
            "threshold": threshold,
            "n": len(held),
            "taught": len(split.taught),
            "loses": loses,
            "fresh": split.fresh,
        }
        write_json(out / "facts.json", facts)

    def _write(self, folder: Path, predictor: Fast, dev: Sequence[str]) -> Threshold | None:
        """Calibrate a student, write its bundle and return its threshold for being unsure."""
        teacher, seed = self.teacher.manifest, self.job.task.config.seed
        answers = Answers(dev, self._probabilities(dev), self._answers(dev))
        predictor, calibration, threshold = calibrated(predictor.as_stored(), answers, teacher, seed=seed)
        save(folder, Contents.like(teacher, [TierContents(pack(predictor, self.main), predictor, calibration)]))
        return threshold

    def kept(self) -> Kept | None:
        """Return the macro-F1 of the student or its rival against the teacher's answers; None if it could not be measured."""
        return kept_in(self.job.folder.steps / "student", self.teacher)

    def _agreement(self, teacher: Array, student: Array) -> float:
        return float(self.teacher.manifest.answers.right(teacher, student).mean())

    def _learner(self, name: LearnerName, taught: Sequence[str]) -> Any:
        return make_learner(name, self.job.context).fit(self._labeled(taught), (), seed=0)

    def _fitted(self, taught: Sequence[str]) -> Fast:
        kind = self.teacher.manifest.answers
        if kind.words:
            crf: CrfPredictor = self._learner("crf", taught)
            return crf
        seed = derive_seed(self.job.task.config.seed, "static")
        # Parts of two pairs do not make a pair, so pairs are not mixed.
        texts = taught if self.teacher.manifest.pairs else with_mixtures(taught, seed=seed)
        tokenizer = self._tokenizer(special=False)
        rows, targets = tokenizer.encode(texts), self._probabilities(texts)
        teacher = self.final.predictors(self.job.context)[self.shipped]
        assert isinstance(teacher, EncoderPredictor)
        table = token_table(cast(TransformerEncoder, teacher.encoder))
        head = fit_static(table, rows, targets, texts=len(taught), seed=seed, several=kind.several)
        return StaticPredictor(self.teacher.labels, tokenizer, LinearHead(head.weights[: tokenizer.size], head.bias))

    def _answers(self, texts: Sequence[str]) -> Array:
        return self.teacher.decide(self._probabilities(texts))

    def _probabilities(self, texts: Sequence[str]) -> Array:
        """Return the teacher's probabilities; it reads the same texts only once."""
        if (key := tuple(texts)) not in self._cache:
            self._cache[key] = self.teacher.probabilities(texts)
        return self._cache[key]

    def _labeled(self, texts: Sequence[str]) -> list[Example]:
        """Return texts with the teacher's answers as their labels."""
        kind, labels = self.teacher.manifest.answers, self.teacher.labels
        rows = zip(texts, self._answers(texts), strict=True)
        return [Example(f"taught-{i}", text, kind.shown(answer, labels)) for i, (text, answer) in enumerate(rows)]

    def _split(self) -> StudentTexts:
        """Return the texts to learn from and those to calibrate on; the latter are new to the teacher if there are enough."""
        known = [example.text for example in (*self.final.real, *kept(self.final.drafts))]
        learned = set(known)
        new = [row.text for row in self.job.pool.texts if row.text not in learned]
        texts = list(dict.fromkeys([*known, *new]))
        fresh = len(new) >= 2 * LEAST_DEV
        source = new if fresh else texts
        size = min(len(source) // 2, max(LEAST_DEV, int(DEV * len(texts))))
        order = np.random.default_rng(derive_seed(self.job.task.config.seed, "dev")).permutation(len(source))
        dev = [source[place] for place in np.sort(order[:size])]
        held = set(dev)
        return StudentTexts(self._as_read([text for text in texts if text not in held]), self._as_read(dev), fresh)

    def _as_read(self, texts: list[str]) -> list[str]:
        """Return texts up to the last word that the teacher reads, since it labels no word after that."""
        if not self.teacher.manifest.answers.words:
            return texts
        read = self._tokenizer().words(texts)
        ends = (words_of(text)[max(row.words)][1] if row.words else 0 for text, row in zip(texts, read, strict=True))
        return [text[:end] for text, end in zip(texts, ends, strict=True)]

    def _tokenizer(self, *, special: bool = True) -> TextTokenizer:
        last = self.teacher.manifest.last
        path = self.main / "tokenizer.json"
        return TextTokenizer(path, max_tokens=last.max_tokens or 0, special=special, windows=last.windows)
