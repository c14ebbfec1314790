"""What ships of a trained model: itself, a static student of it, or the student in front of it, with a certificate.

A cascade is certified on half of the pool, which neither tier was trained on, and a student is measured on that. Without a pool
it is measured on the texts that it is calibrated on: it was not trained on these, but the model may have been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from safetensors.numpy import load_file

from refsynth.bundle.certificate import Certificate, Confidence, FirstTier, profile_of, sureness
from refsynth.bundle.model import load
from refsynth.bundle.store import Contents, CrfFiles, EncoderFiles, StaticFiles, StaticTier, save
from refsynth.compress.cascade import LEAST_SHARE, certify, least_texts
from refsynth.core.intervals import share_of
from refsynth.core.run import digest, read_json, write_json
from refsynth.core.sections import CompressConfig
from refsynth.core.types import Metric
from refsynth.models.crf import CrfPredictor
from refsynth.models.predict import LinearHead
from refsynth.pipeline.candidates import Candidate
from refsynth.pipeline.fit import Final
from refsynth.pipeline.job import Job
from refsynth.pipeline.student import School, Student

SIMPLE = {"tfidf": "TF-IDF", "crf": "a CRF"}
"""Kinds of bundles that have no transformer."""

AGREEMENT = "agreement with the model it was taught by"

ASSUMPTIONS = (
    "later texts are drawn like those of data.pool, each text counted once",
    "agreement is with the second tier, whatever the truth",
)


@dataclass(frozen=True)
class Tiers:
    """What ships. `main` is the bundle of the trained model alone; `reason` says why it is not what was wanted, if it is not.

    `kept` is the macro-F1 of what ships against the answers of the model alone, on the texts that the student was measured on.
    """

    wanted: Literal["one", "static", "cascade"]
    bundle: Path
    main: Path
    step: str = "bundle"
    student: Student | None = None
    certificate: Certificate | None = None
    reason: str = ""
    kept: float = 1.0

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
    if teacher.manifest.kind in SIMPLE:
        return Tiers(config.tiers, main, main, reason=f"it is {SIMPLE[teacher.manifest.kind]}, as fast as a student would be")
    need = least_texts(config.disagreement, config.delta)
    if config.tiers == "cascade" and len(job.aside) < need:
        found = f"{len(job.aside):,} texts are set aside of data.pool"
        reason = f"{found}, and no threshold can be certified on fewer than {need:,}: give a pool of {2 * need:,} texts or more"
        return Tiers(config.tiers, main, main, reason=reason)
    made = _Maker(School(job, final, main, teacher))
    student = made.school.student()
    if config.tiers == "static":
        return made.static(student, lineage)
    return made.cascade(student, config, metrics, lineage)


@dataclass(frozen=True)
class _Maker:
    """Makes the bundles that a student is in."""

    school: School

    def static(self, student: Student, lineage: Mapping[str, Any]) -> Tiers:
        """Return the student alone, or TF-IDF that was taught the same where that agrees more with the teacher."""
        folder = self.school.job.folder
        metrics = (share_of(AGREEMENT, max(student.agreement, student.rival or 0.0), student.n),)
        key = [folder.hash_of("static"), folder.hash_of("bundle"), lineage, "static"]

        def make(out: Path) -> None:
            contents = replace(self._alone(student, lineage), metrics=metrics)
            if student.loses:
                learnt, calibration, _ = self.school.rival()
                contents = replace(
                    contents, features=learnt.vectors.parts, head=learnt.head, reference=learnt, calibration=calibration
                )
            save(out / "bundle", contents)

        step = folder.step("tiers", key, make)
        return Tiers("static", step / "bundle", self.school.main, "tiers", student, kept=student.kept)

    def cascade(self, student: Student, config: CompressConfig, metrics: Sequence[Metric], lineage: Mapping[str, Any]) -> Tiers:
        """Return the student before its teacher where a threshold can be certified, else the teacher alone."""
        job, main = self.school.job, self.school.main
        bars = {"alpha": config.disagreement, "delta": config.delta}
        key = [job.folder.hash_of("static"), job.folder.hash_of("bundle"), bars, digest(job.aside), lineage]

        def make(out: Path) -> None:
            first = self._certified(student, config)
            if first is not None:
                save(out / "bundle", self._both(student, first, metrics, lineage))
            texts = [row.text for row in job.aside]
            kept = None if first is None else self.school.kept(load(out / "bundle").answer(texts).answers, texts)
            write_json(out / "facts.json", {"kept": kept})

        step = job.folder.step("tiers", key, make, version=3)
        kept = read_json(step / "facts.json")["kept"]
        if kept is None:
            reason = (
                f"no threshold keeps the disagreement at {config.disagreement:.1%} on {len(job.aside):,} texts and "
                f"lets the static tier answer {LEAST_SHARE:.0%} of them"
            )
            return Tiers("cascade", main, main, student=student, reason=reason)
        bundle = step / "bundle"
        first = load(bundle).manifest.first
        assert first is not None
        return Tiers("cascade", bundle, main, "tiers", student, first.certificate, kept=kept)

    def _certified(self, student: Student, config: CompressConfig) -> FirstTier | None:
        """Return when the student answers by itself, as the texts that were set aside show."""
        school, texts = self.school, [row.text for row in self.school.job.aside]
        manifest = school.teacher.manifest
        confidence: Confidence = "answer" if manifest.answers.several or manifest.answers.spans else "odds"
        probabilities, said = school.answers(school.predictor(), student.calibration, texts)
        sure = sureness(confidence, probabilities, manifest.answers.confidence(probabilities, said))
        bars = {"alpha": config.disagreement, "delta": config.delta}
        found = certify(sure, school.disagrees(said, texts), **bars)
        if found is None:
            return None
        certificate = Certificate(
            **bars,
            n=len(texts),
            answered=found.answered,
            disagreed=found.disagreed,
            profile=tuple(profile_of(sure, texts).tolist()),
            assumptions=ASSUMPTIONS,
        )
        return FirstTier(
            threshold=found.threshold, confidence=confidence, calibration=student.calibration, certificate=certificate
        )

    def _alone(self, student: Student, lineage: Mapping[str, Any]) -> Contents:
        """Return the bundle of the student."""
        manifest, predictor = self.school.teacher.manifest, self.school.predictor()
        features: StaticFiles | CrfFiles = StaticFiles(self.school.main / "tokenizer.json", manifest.max_tokens or 0)
        if isinstance(predictor, CrfPredictor):
            features = CrfFiles(predictor.terms, predictor.transitions)
        return Contents(
            labels={label.name: label.description for label in manifest.labels},
            language=manifest.language,
            task=manifest.task,
            features=features,
            head=predictor.head,
            reference=predictor,
            calibration=student.calibration,
            lineage=dict(lineage),
        )

    def _both(self, student: Student, first: FirstTier, metrics: Sequence[Metric], lineage: Mapping[str, Any]) -> Contents:
        """Return the bundle of the student in front of its teacher."""
        school, head = self.school, load_file(self.school.main / "head.safetensors")
        manifest = school.teacher.manifest
        return replace(
            self._alone(student, lineage),
            features=EncoderFiles(school.main, manifest.max_tokens or 0, manifest.prefix),
            head=LinearHead(head["weights"], head["bias"]),
            reference=school.final.predictors(school.job.shop)[Candidate.named(str(lineage["candidate"]))],
            calibration=manifest.calibration,
            metrics=[replace(metric, name=f"{metric.name} of the second tier") for metric in metrics],
            first=StaticTier(school.predictor(), first),
        )
