"""What ships of a trained model: itself, a static student of it, or the student in front of it, with a certificate.

The student learns from what the int8 bundle says of all texts at hand. What it is measured and certified on is half of the pool,
which neither has learnt from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from safetensors.numpy import load_file, save_file

from refsynth.bundle.manifest import Calibration, Certificate, FirstTier
from refsynth.bundle.model import Model, load
from refsynth.bundle.store import Contents, EncoderFiles, StaticFiles, StaticTier, save
from refsynth.compress.cascade import LEAST_SHARE, certify, least_texts
from refsynth.compress.static import fit_static, token_table
from refsynth.core.run import derive_seed, digest, read_json, write_json
from refsynth.core.sections import CompressConfig
from refsynth.core.types import Example, FloatArray, IntArray, Metric
from refsynth.evaluation.calibration import choose_threshold, fit_temperature
from refsynth.metrics import lead_of, share_of, softmax
from refsynth.models.predict import EncoderPredictor, LinearHead, TfidfPredictor
from refsynth.models.static import StaticPredictor
from refsynth.models.tokenise import TextTokenizer
from refsynth.pipeline.candidates import Candidate
from refsynth.pipeline.fit import Final
from refsynth.pipeline.job import Job
from refsynth.pipeline.workshop import LEARNERS
from refsynth.quality.filter import kept

DEV, LEAST_DEV = 0.1, 40
"""Share of the student's texts that it is calibrated on, and the fewest that it takes."""

AGREEMENT = "agreement with the model it was taught by"

ASSUMPTIONS = (
    "later texts are drawn like those of data.pool, each text counted once",
    "agreement is with the second tier, whatever the truth",
)


class Student(NamedTuple):
    """The static student: its calibration, and how often it and TF-IDF say what the teacher says of `n` texts."""

    calibration: Calibration
    agreement: float
    rival: float
    n: int
    taught: int


@dataclass(frozen=True)
class Tiers:
    """What ships. `main` is the bundle of the trained model alone; `reason` says why it is not what was wanted, if it is not."""

    wanted: Literal["one", "static", "cascade"]
    bundle: Path
    main: Path
    step: str = "bundle"
    student: Student | None = None
    certificate: Certificate | None = None
    reason: str = ""

    @property
    def agreement(self) -> float:
        """How often what ships says what the model alone says, of texts that neither has learnt from."""
        if self.certificate is not None:
            return 1 - self.certificate.disagreed / self.certificate.n
        return 1.0 if self.student is None else max(self.student.agreement, self.student.rival)

    def line(self) -> str:
        """Return the outcome as one line for the screen."""
        if self.reason:
            return f"the model ships alone: {self.reason}"
        assert self.student is not None
        if self.certificate is None:
            return f"{self.student.agreement:.1%} of {self.student.n:,} texts labelled as by the trained model"
        found = self.certificate
        return (
            f"static tier answers {found.share:.0%}; at most {found.alpha:.1%} of texts otherwise than the model alone "
            f"(certified on {found.n:,} texts, {1 - found.delta:.0%} confidence)"
        )


def make_tiers(job: Job, final: Final, main: Path, *, metrics: Sequence[Metric], lineage: Mapping[str, Any]) -> Tiers:
    """Return what ships, given the bundle of the trained model alone.

    Args:
        job: the run.
        final: what the model was trained on.
        main: its bundle, as the step `bundle` made it.
        metrics: of the model.
        lineage: for the manifest.

    Raises:
        MissingError: model2vec is not installed.
    """
    config = job.task.config.compress
    if config.tiers == "one":
        return Tiers("one", main, main)
    teacher = load(main)
    if teacher.manifest.kind != "encoder":
        return Tiers(config.tiers, main, main, reason="it is TF-IDF, which is as fast as a student would be")
    need = least_texts(config.disagreement, config.delta)
    if config.tiers == "cascade" and len(job.aside) < need:
        found = f"{len(job.aside):,} texts are set aside of data.pool"
        reason = f"{found}, and no threshold can be certified on fewer than {need:,}: give a pool of {2 * need:,} texts or more"
        return Tiers(config.tiers, main, main, reason=reason)
    made = _Maker(job, final, main, teacher)
    student = made.student()
    if config.tiers == "static":
        return made.static(student, lineage)
    return made.cascade(student, config, metrics, lineage)


@dataclass(frozen=True)
class _Maker:
    """Makes the student of a model and the bundles that it is in."""

    job: Job
    final: Final
    main: Path
    teacher: Model

    def student(self) -> Student:
        """Fit the student, or find it in the step cache."""
        step = self.job.folder.step("static", self._key(), self._fit)
        facts = read_json(step / "facts.json")
        return Student(**{**facts, "calibration": Calibration.model_validate(facts["calibration"], strict=False)})

    def static(self, student: Student, lineage: Mapping[str, Any]) -> Tiers:
        """Return the student alone, or TF-IDF that was taught the same where that agrees more with the teacher."""
        rival = student.rival > student.agreement
        contents = self._common(lineage)
        metrics = (share_of(AGREEMENT, max(student.agreement, student.rival), student.n),)
        key = [self.job.folder.hash_of("static"), self.job.folder.hash_of("bundle"), lineage, "static"]

        def make(out: Path) -> None:
            if rival:
                learnt = self._rival(self._split()[0])
                shown = replace(contents, features=learnt.vectors.parts, head=learnt.head, reference=learnt, metrics=metrics)
                save(out / "bundle", replace(shown, calibration=Calibration()))
                return
            predictor = self._predictor(self._head())
            shown = replace(contents, head=predictor.head, reference=predictor, calibration=student.calibration, metrics=metrics)
            save(out / "bundle", shown)

        step = self.job.folder.step("tiers", key, make)
        return Tiers("static", step / "bundle", self.main, "tiers", student)

    def cascade(self, student: Student, config: CompressConfig, metrics: Sequence[Metric], lineage: Mapping[str, Any]) -> Tiers:
        """Return the student before its teacher where a threshold can be certified, else the teacher alone."""
        bars = {"alpha": config.disagreement, "delta": config.delta}
        key = [self.job.folder.hash_of("static"), self.job.folder.hash_of("bundle"), bars, digest(self.job.aside), lineage]

        def make(out: Path) -> None:
            texts = [row.text for row in self.job.aside]
            predictor = self._predictor(self._head())
            said = softmax(np.asarray(predictor.logits(texts), float) / student.calibration.temperature)
            theirs = self.teacher.probabilities(texts).argmax(1)
            found = certify(lead_of(said), said.argmax(1) != theirs, **bars)
            write_json(out / "facts.json", None if found is None else [len(texts), *found])
            if found is None:
                return
            certificate = Certificate(
                **bars, n=len(texts), answered=found.answered, disagreed=found.disagreed, assumptions=ASSUMPTIONS
            )
            first = FirstTier(
                threshold=found.threshold, confidence="odds", calibration=student.calibration, certificate=certificate
            )
            head = load_file(self.main / "head.safetensors")
            manifest = self.teacher.manifest
            contents = replace(
                self._common(lineage),
                features=EncoderFiles(self.main, manifest.max_tokens or 0, manifest.prefix),
                head=LinearHead(head["weights"], head["bias"]),
                reference=self.final.predictors(self.job.shop)[Candidate.named(lineage["candidate"])],
                calibration=manifest.calibration,
                metrics=[replace(metric, name=f"{metric.name} of the second tier") for metric in metrics],
                first=StaticTier(predictor.head, predictor, first),
            )
            save(out / "bundle", contents)

        step = self.job.folder.step("tiers", key, make)
        if read_json(step / "facts.json") is None:
            reason = (
                f"no threshold keeps the disagreement at {config.disagreement:.1%} on {len(self.job.aside):,} texts and "
                f"lets the static tier answer {LEAST_SHARE:.0%} of them"
            )
            return Tiers("cascade", self.main, self.main, student=student, reason=reason)
        bundle = step / "bundle"
        first_tier = load(bundle).manifest.first
        assert first_tier is not None
        return Tiers("cascade", bundle, self.main, "tiers", student, first_tier.certificate)

    def _key(self) -> Any:
        pool = [self.job.pool.texts, self.job.aside]
        return {"bundle": self.job.folder.hash_of("bundle"), "fit": self.job.folder.hash_of("fit"), "pool": digest(pool)}

    def _fit(self, out: Path) -> None:
        taught, dev = self._split()
        predictor = self._final_teacher()
        rows = self._tokenizer().encode(taught)
        seed = derive_seed(self.job.task.config.seed, "static")
        head = fit_static(token_table(predictor.encoder), rows, self.teacher.probabilities(taught), seed=seed)
        head = LinearHead(head.weights[: self._tokenizer().size], head.bias)
        save_file({"weights": head.weights, "bias": head.bias}, out / "votes.safetensors")
        measured = [row.text for row in self.job.aside] or dev
        student, theirs = self._predictor(head), self.teacher.probabilities(measured).argmax(1)
        said = student.logits(measured).argmax(1)
        rival = np.asarray(self._rival(taught).logits(measured)).argmax(1)
        facts = {
            "calibration": self._calibrated(student, dev).model_dump(mode="json"),
            "agreement": float((said == theirs).mean()),
            "rival": float((rival == theirs).mean()),
            "n": len(measured),
            "taught": len(taught),
        }
        write_json(out / "facts.json", facts)

    def _calibrated(self, student: StaticPredictor, dev: Sequence[str]) -> Calibration:
        """Calibrate by labels drawn from the teacher's calibrated probabilities, which stand for the truth."""
        logits = np.asarray(student.logits(dev), float)
        drawn = _drawn(self.teacher.probabilities(dev), seed=derive_seed(self.job.task.config.seed, "drawn"))
        temperature = fit_temperature(logits, drawn)
        if not self.teacher.manifest.calibration.threshold:
            return Calibration(temperature=temperature)
        chosen = choose_threshold(drawn, softmax(logits / temperature))
        return Calibration(temperature=temperature, threshold=chosen.threshold)

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
        return [text for text in texts if text not in held], dev

    def _rival(self, taught: Sequence[str]) -> TfidfPredictor:
        """Fit TF-IDF to the teacher's labels of the same texts."""
        said = self.teacher.probabilities(taught).argmax(1)
        labels = self.teacher.labels
        rows = [Example(f"taught-{i}", text, labels[j]) for i, (text, j) in enumerate(zip(taught, said, strict=True))]
        fitted = LEARNERS["tfidf"](self.job.shop).fit(rows, (), seed=0)
        assert isinstance(fitted, TfidfPredictor)
        return fitted

    def _common(self, lineage: Mapping[str, Any]) -> Contents:
        """Return what the bundles have in common, filled in as that of the student."""
        manifest = self.teacher.manifest
        predictor = self._predictor(self._head())
        return Contents(
            labels={label.name: label.description for label in manifest.labels},
            language=manifest.language,
            task=manifest.task,
            features=StaticFiles(self.main / "tokenizer.json", self._longest),
            head=predictor.head,
            reference=predictor,
            calibration=Calibration(),
            lineage=dict(lineage),
        )

    def _head(self) -> LinearHead:
        tensors = load_file(self.job.folder.steps / "static" / "votes.safetensors")
        return LinearHead(tensors["weights"], tensors["bias"])

    def _predictor(self, head: LinearHead) -> StaticPredictor:
        return StaticPredictor(self.teacher.labels, self._tokenizer(), head)

    def _tokenizer(self) -> TextTokenizer:
        return TextTokenizer(self.main / "tokenizer.json", max_tokens=self._longest, special=False)

    def _final_teacher(self) -> Any:
        name = str(self.teacher.manifest.lineage["candidate"])
        predictor = self.final.predictors(self.job.shop)[Candidate.named(name)]
        assert isinstance(predictor, EncoderPredictor)
        return predictor

    @property
    def _longest(self) -> int:
        return self.teacher.manifest.max_tokens or 0


def _drawn(probabilities: FloatArray, *, seed: int) -> IntArray:
    """Return a class for each row [N], drawn by its probabilities [N, K]."""
    rng = np.random.default_rng(seed)
    reached = probabilities.cumsum(1) > rng.random(len(probabilities))[:, None] * probabilities.sum(1, keepdims=True)
    return np.asarray(reached.argmax(1))
