"""Makes the tiers that ship: the trained model, a static student of it, or the student in front of it, with a certificate.

A cascade is certified, and a student is measured, on half of the pool, which neither tier was trained on. Without a pool nothing
is measured, and the texts that calibrate the student also choose between it and its rival.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from safetensors.numpy import load_file

from refsynth.bundle.certificate import PROFILE, Certificate, Confidence, EarlyExit, profile_of
from refsynth.bundle.manifest import Facts
from refsynth.bundle.model import load
from refsynth.bundle.packing import pack, pack_graphs
from refsynth.bundle.spec import HEAD
from refsynth.bundle.store import Contents, TierContents, figures_of, restate, save
from refsynth.compress.answers import kept_in, write_answers
from refsynth.compress.cascade import LEAST_SHARE, certify, least_texts
from refsynth.compress.keeping import Kept
from refsynth.compress.student import Student, StudentMaker
from refsynth.core.hashes import digest
from refsynth.core.intervals import share_of
from refsynth.core.sections import CompressConfig
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Metric
from refsynth.learning.candidates import Candidate
from refsynth.learning.final import Final
from refsynth.learning.job import Job
from refsynth.models.predict import LinearHead

AGREEMENT = "agreement with the model it was taught by"

UNTOLD = "the quality of the student is unknown: data.pool has no text that neither it nor the model has learned from"

LEARNED = "Its student was calibrated on training texts of its teacher, so its confidence may be too high."
"""A limit on the card of a student without a pool, or with a very small one."""

ASSUMPTIONS = (
    "later texts are drawn like those of data.pool, each text counted once",
    "agreement is with the second tier, whatever the truth",
)


@dataclass(frozen=True)
class Tiers:
    """What ships.

    Attributes:
        requested: what the task asks for.
        bundle: what ships.
        main: the bundle of the trained model alone.
        step: the step that made `bundle`.
        student: the student; None if none was made.
        certificate: that of a cascade.
        reason: why the model ships alone although the task asks for more.
        kept: the macro-F1 of what ships against the answers of the model alone, on texts that neither has learned from; None if
            there are none, or if the model ships alone.
    """

    requested: Literal["one", "static", "cascade"]
    bundle: Path
    main: Path
    step: str = "bundle"
    student: Student | None = None
    certificate: Certificate | None = None
    reason: str = ""
    kept: Kept | None = None

    @property
    def limits(self) -> tuple[str, ...]:
        """Sentences for the card of what ships that do not follow from its manifest."""
        return (LEARNED,) if self.bundle != self.main and self.student is not None and not self.student.fresh else ()

    def line(self) -> str:
        """Return the outcome as one line for the screen."""
        if self.reason:
            return f"the model ships alone: {self.reason}"
        assert self.student is not None
        if self.certificate is None:
            if self.student.nearest is None:
                return UNTOLD
            return f"the student agrees with the trained model on {self.student.nearest:.1%} of {self.student.n:,} texts"
        certificate = self.certificate
        return (
            f"the static tier answers {certificate.share:.0%}; at most {certificate.alpha:.1%} of texts are answered otherwise "
            f"than by the model alone (certified on {certificate.n:,} texts, {1 - certificate.delta:.0%} confidence)"
        )


def make_tiers(job: Job, final: Final, shipped: Candidate, main: Path, *, metrics: Sequence[Metric], facts: Facts) -> Tiers:
    """Return what ships, given the bundle of the trained model alone.

    Args:
        job: the run.
        final: the final fit.
        shipped: the candidate that the model is.
        main: its bundle, as the step `bundle` made it.
        metrics: figures of the model.
        facts: further fields of the manifest.

    Raises:
        MissingError: model2vec is not installed.
    """
    config = job.task.config.compress
    if config.tiers == "one":
        return Tiers("one", main, main)
    teacher = load(main)
    if (spec := teacher.manifest.last.spec).small:
        return Tiers(config.tiers, main, main, reason=f"{spec.title} is as fast as a student would be")
    need = least_texts(config.disagreement, config.delta)
    if config.tiers == "cascade" and len(job.pool.reserved) < need:
        reserved_note = f"{len(job.pool.reserved):,} texts of data.pool are held out"
        too_few = f"no threshold can be certified on fewer than {need:,}"
        reason = f"{reserved_note}, and {too_few}: give a pool of {2 * need:,} texts or more"
        return Tiers(config.tiers, main, main, reason=reason)
    maker = _TierMaker(StudentMaker(job, final, shipped, main, teacher))
    student = maker.students.student()
    if config.tiers == "static":
        return maker.static(student, facts)
    return maker.cascade(student, config, metrics, facts)


@dataclass(frozen=True)
class _TierMaker:
    """Makes the bundles that contain a student."""

    students: StudentMaker

    def static(self, student: Student, facts: Facts) -> Tiers:
        """Return the student alone, or its rival TF-IDF if that agrees more often with the teacher."""
        metrics = () if student.nearest is None else (share_of(AGREEMENT, student.nearest, student.n),)

        def make(out: Path) -> None:
            bundle = shutil.copytree(self.students.bundle(rival=student.loses), out / "bundle")
            changed = {"metrics": figures_of(metrics), **dict(_formed(facts, "static"))}
            restate(bundle, load(bundle).manifest.model_copy(update=changed), limits=() if student.fresh else (LEARNED,))

        step = self._step(make, facts)
        return Tiers("static", step / "bundle", self.students.main, "tiers", student, kept=self.students.kept())

    def cascade(self, student: Student, config: CompressConfig, metrics: Sequence[Metric], facts: Facts) -> Tiers:
        """Return the student in front of its teacher if a threshold can be certified, else the teacher alone."""
        main, reserved = self.students.main, len(self.students.job.pool.reserved)
        risk = {"alpha": config.disagreement, "delta": config.delta}

        def make(out: Path) -> None:
            save(out / "bundle", self._both(risk, metrics, facts))
            if not self._certified(out, risk, () if student.fresh else (LEARNED,)):
                shutil.rmtree(out / "bundle")

        step = self._step(make, facts)
        if not (step / "bundle").exists():
            reason = (
                f"no threshold keeps the disagreement at {config.disagreement:.1%} on {reserved:,} texts and "
                f"lets the static tier answer {LEAST_SHARE:.0%} of them"
            )
            return Tiers("cascade", main, main, student=student, reason=reason)
        bundle = step / "bundle"
        early = load(bundle).manifest.tiers[0].early
        assert early is not None
        return Tiers("cascade", bundle, main, "tiers", student, early.certificate, kept=kept_in(step, self.students.teacher))

    def _step(self, make: Callable[[Path], None], facts: Facts) -> Path:
        job = self.students.job
        extra = {"texts": digest([job.pool.texts, job.pool.reserved]), "lineage": facts.model_dump(mode="json")}
        return job.folder.step(STEPS["tiers"], make, config=settings_of(job.task.config), extra=extra)

    def _certified(self, out: Path, risk: Mapping[str, float], limits: Sequence[str]) -> bool:
        """Certify a cascade on the held-out texts of the pool and write the certificate into its manifest.

        Returns:
            whether a threshold passes.
        """
        model, texts = load(out / "bundle"), [row.text for row in self.students.job.pool.reserved]
        kind, (first, last) = model.manifest.answers, model.manifest.tiers
        assert first.early is not None
        fast, slow = model.by_tier(texts)
        certified = certify(fast.exit_confidence, np.asarray(kind.right(slow.answers, fast.answers) == 0), **risk)
        if certified is None:
            return False
        certificate = Certificate(
            **risk,
            n=len(texts),
            answered=certified.answered,
            disagreed=certified.disagreed,
            profile=tuple(profile_of(fast.exit_confidence, texts).tolist()),
            assumptions=ASSUMPTIONS,
        )
        early = first.early.model_copy(update={"threshold": certified.threshold, "certificate": certificate})
        tiers = (first.model_copy(update={"early": early}), last)
        restate(out / "bundle", model.manifest.model_copy(update={"tiers": tiers}), limits=limits)
        answers, exits = np.array(slow.answers), fast.exit_confidence >= certified.threshold
        answers[exits] = fast.answers[exits]
        write_answers(out, teacher=slow.answers, student=answers)
        return True

    def _both(self, risk: Mapping[str, float], metrics: Sequence[Metric], facts: Facts) -> Contents:
        """Return the bundle of the student in front of its teacher, not certified yet."""
        students, head = self.students, load_file(self.students.main / HEAD)
        manifest, (predictor, calibration) = students.teacher.manifest, students.predictor()
        last = manifest.last
        several = manifest.answers.several or manifest.answers.words
        confidence: Confidence = "answer" if several else "odds"
        nothing = Certificate(**risk, n=1, answered=0, disagreed=0, profile=(0,) * PROFILE, assumptions=("not certified yet",))
        early = EarlyExit(threshold=1.0, confidence=confidence, certificate=nothing)
        slow = pack_graphs(
            students.main,
            LinearHead(head["weights"], head["bias"]),
            last.max_tokens or 0,
            prefix=last.prefix,
            windows=last.windows,
            words=last.spec.words,
        )
        reference = students.final.predictors(students.job.context)[students.shipped]
        tiers = [
            TierContents(pack(predictor, students.main), predictor, calibration, early=early),
            TierContents(slow, reference, manifest.calibration),
        ]
        metrics = [replace(metric, name=f"{metric.name} of the second tier") for metric in metrics]
        return Contents.like(manifest, tiers, metrics=metrics, facts=_formed(facts, "cascade"))


def _formed(facts: Facts, form: str) -> Facts:
    return facts.model_copy(update={"lineage": {**facts.lineage, "form": form}})
