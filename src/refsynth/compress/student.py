"""The student that answers where speed counts most: what it is, what it is taught, how near it comes to its teacher.

A text's student is a bag of voting tokens, with TF-IDF as its rival; that of words is a CRF. It learns what the finished bundle
says of all texts at hand, and is calibrated by that bundle's probabilities, which stand for the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.files import Files
from refsynth.bundle.model import Model, load
from refsynth.bundle.packing import pack
from refsynth.bundle.store import Contents, TierContents, save
from refsynth.bundle.tiers import open_tier
from refsynth.compress.drawn import Heard, calibrated
from refsynth.compress.keeping import Kept
from refsynth.compress.likeness import kept_in, write_answers
from refsynth.compress.static import fit_static, lessons, token_table
from refsynth.core.run import derive_seed, digest, read_json, write_json
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
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tokenizer import TextTokenizer

DEV, LEAST_DEV = 0.1, 40
"""Share of the student's texts that it is calibrated on, and the fewest that it takes."""

STUDENT, RIVAL = "student", "rival"
"""The bundles in the step."""

Fast = StaticPredictor | TfidfPredictor | CrfPredictor


class Student(NamedTuple):
    """A calibrated student, how often it and its rival, if it has one, answer `n` texts as the teacher does.

    The texts are those that neither has learnt from; without any nothing is measured, and `agreement` and `rival` are None.
    `loses` tells whether the rival comes nearer; `calibration` and `threshold` are those of the nearer one. `fresh` tells whether
    the texts that it was calibrated on are new to the teacher.
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
        """How often the one that comes nearer answers as the teacher does."""
        return self.rival if self.loses else self.agreement


class StudentTexts(NamedTuple):
    """The texts to teach, those to calibrate on, and whether the teacher has not learnt from the latter."""

    taught: list[str]
    dev: list[str]
    fresh: bool


@dataclass(frozen=True)
class StudentMaker:
    """Makes the student of a model.

    Attributes:
        job: the run.
        final: what the model was trained on.
        shipped: the candidate that the model is.
        main: the model's bundle.
        teacher: the same, opened.
    """

    job: Job
    final: Final
    shipped: Candidate
    main: Path
    teacher: Model
    _asked: dict[tuple[str, ...], Array] = field(default_factory=dict)

    def student(self) -> Student:
        """Fit the student, or find it in the step cache.

        Raises:
            MissingError: model2vec is not installed.
        """
        extra = {"texts": digest([self.job.pool.texts, self.job.pool.reserved])}
        done = self.job.folder.step(STEPS["static"], self._fit, config=settings_of(self.job.task.config), extra=extra)
        facts = read_json(done / "facts.json")
        calibration = Calibration.model_validate(facts["calibration"], strict=False)
        threshold = None if facts["threshold"] is None else Threshold(*facts["threshold"])
        return Student(**{**facts, "calibration": calibration, "threshold": threshold})

    def bundle(self, *, rival: bool = False) -> Path:
        """Return the bundle of the fitted student, or of its rival: what is measured and what ships is this."""
        return self.job.folder.steps / "static" / (RIVAL if rival else STUDENT)

    def predictor(self) -> tuple[StaticPredictor | CrfPredictor, Calibration]:
        """Return the student as its bundle has it, to go in front of its teacher."""
        files = Files(self.bundle())
        predictor = open_tier(files, 0, 0).predictor
        assert isinstance(predictor, (StaticPredictor, CrfPredictor))
        return predictor, files.manifest.calibration

    def _fit(self, out: Path) -> None:
        split = self._split()
        threshold = self._written(out / STUDENT, self._fitted(split.taught), split.dev)
        asked = [row.text for row in self.job.pool.reserved]
        theirs = self._theirs(asked or split.dev)
        said = load(out / STUDENT).answer(asked or split.dev).answers
        same, other, loses = self._agreement(theirs, said), None, False
        if not self.teacher.manifest.answers.spans:
            chosen = self._written(out / RIVAL, self._rival(split.taught), split.dev)
            others = load(out / RIVAL).answer(asked or split.dev).answers
            other = self._agreement(theirs, others)
            if loses := other > same:
                threshold, said = chosen, others
        if asked:  # what it was fitted to, or its teacher, measures nothing
            write_answers(out, theirs=theirs, said=said)
        facts = {
            "agreement": same if asked else None,
            "rival": other if asked else None,
            "calibration": load(out / (RIVAL if loses else STUDENT)).manifest.calibration.model_dump(mode="json"),
            "threshold": threshold,
            "n": len(asked),
            "taught": len(split.taught),
            "loses": loses,
            "fresh": split.fresh,
        }
        write_json(out / "facts.json", facts)

    def _written(self, folder: Path, predictor: Fast, dev: Sequence[str]) -> Threshold | None:
        """Calibrate a student and write its bundle."""
        teacher, seed = self.teacher.manifest, self.job.task.config.seed
        heard = Heard(dev, self._probabilities(dev), self._theirs(dev))
        predictor, calibration, threshold = calibrated(predictor.as_stored(), heard, teacher, seed=seed)
        contents = Contents(
            labels={label.name: label.description for label in teacher.labels},
            language=teacher.language,
            task=teacher.task,
            tiers=[TierContents(pack(predictor, self.main), predictor, calibration)],
        )
        save(folder, contents)
        return threshold

    def kept(self) -> Kept | None:
        """Return the macro-F1 of the nearer one against the teacher's answers; None where that cannot be told."""
        return kept_in(self.job.folder.steps / "static", self.teacher)

    def _agreement(self, theirs: Array, said: Array) -> float:
        return float(self.teacher.manifest.answers.right(theirs, said).mean())

    def _rival(self, taught: Sequence[str]) -> TfidfPredictor:
        """Fit TF-IDF to the teacher's answers of the same texts."""
        fitted = make_learner("tfidf", self.job.context).fit(self._answered(taught), (), seed=0)
        assert isinstance(fitted, TfidfPredictor)
        return fitted

    def _fitted(self, taught: Sequence[str]) -> StaticPredictor | CrfPredictor:
        kind = self.teacher.manifest.answers
        if kind.spans:
            fitted = make_learner("crf", self.job.context).fit(self._answered(taught), (), seed=0)
            assert isinstance(fitted, CrfPredictor)
            return fitted
        seed = derive_seed(self.job.task.config.seed, "static")
        pairs = self.teacher.manifest.pairs
        given = taught if pairs else lessons(taught, seed=seed)  # pieces of two pairs are no pair
        rows, targets = self._tokenizer().encode(given), self._probabilities(given)
        table = token_table(self._final_teacher().encoder)
        head = fit_static(table, rows, targets, texts=len(taught), seed=seed, several=kind.several)
        head = LinearHead(head.weights[: self._tokenizer().size], head.bias)
        return StaticPredictor(self.teacher.labels, self._tokenizer(), head)

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

    def _split(self) -> StudentTexts:
        """Return the texts to teach and those to calibrate on, which the teacher has not learnt from where there are enough."""
        known = [example.text for example in (*self.final.real, *kept(self.final.drafts))]
        learnt = set(known)
        new = [row.text for row in self.job.pool.texts if row.text not in learnt]
        texts = list(dict.fromkeys([*known, *new]))
        fresh = len(new) >= 2 * LEAST_DEV
        source = new if fresh else texts
        size = min(len(source) // 2, max(LEAST_DEV, int(DEV * len(texts))))
        order = np.random.default_rng(derive_seed(self.job.task.config.seed, "dev")).permutation(len(source))
        dev = [source[place] for place in np.sort(order[:size])]
        held = set(dev)
        return StudentTexts(self._as_read([text for text in texts if text not in held]), self._as_read(dev), fresh)

    def _as_read(self, texts: list[str]) -> list[str]:
        """Return texts up to the last word that a tagger reads: of what comes after, it says nothing that could be learnt."""
        if not self.teacher.manifest.answers.spans:
            return texts
        longest, windows = self.teacher.manifest.last.max_tokens or 0, self.teacher.manifest.last.windows
        read = TextTokenizer(self.main / "tokenizer.json", max_tokens=longest, windows=windows).words(texts)
        ends = (words_of(text)[max(row.words)][1] if row.words else 0 for text, row in zip(texts, read, strict=True))
        return [text[:end] for text, end in zip(texts, ends, strict=True)]

    def _tokenizer(self) -> TextTokenizer:
        longest, windows = self.teacher.manifest.last.max_tokens or 0, self.teacher.manifest.last.windows
        return TextTokenizer(self.main / "tokenizer.json", max_tokens=longest, special=False, windows=windows)

    def _final_teacher(self) -> Any:
        predictor = self.final.predictors(self.job.context)[self.shipped]
        assert isinstance(predictor, EncoderPredictor)
        return predictor
