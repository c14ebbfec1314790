"""What ships of a trained model: itself, a static student of it, or the student in front of it, with a certificate.

A cascade is certified on half of the pool, which neither tier was trained on, and a student is measured on that. Without a pool
it is measured on the texts that it is calibrated on: it was not trained on these, but the model may have been.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
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
from refsynth.compress.cascade import LEAST_SHARE, certify, least_texts
from refsynth.compress.keeping import Kept
from refsynth.compress.likeness import kept_in, write_answers
from refsynth.compress.student import Student, StudentMaker
from refsynth.core.intervals import share_of
from refsynth.core.run import digest
from refsynth.core.sections import CompressConfig
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Metric
from refsynth.learning.candidates import Candidate
from refsynth.learning.final import Final
from refsynth.learning.job import Job
from refsynth.models.predict import LinearHead

AGREEMENT = "agreement with the model it was taught by"

UNTOLD = "what the student keeps cannot be told: there is no text in data.pool that neither it nor the model has learnt from"

LEARNT = "Its student was calibrated on texts that the model which taught it had learnt from: its confidence may be too high."
"""A limit on the card of a student without a pool, or with a very small one."""

ASSUMPTIONS = (
    "later texts are drawn like those of data.pool, each text counted once",
    "agreement is with the second tier, whatever the truth",
)


@dataclass(frozen=True)
class Tiers:
    """What ships. `main` is the bundle of the trained model alone; `reason` says why it is not what was wanted, if it is not.

    `kept` is the macro-F1 of what ships against the answers of the model alone, on texts that neither has learnt from; None where
    that cannot be told, or where the model ships alone.
    """

    wanted: Literal["one", "static", "cascade"]
    bundle: Path
    main: Path
    step: str = "bundle"
    student: Student | None = None
    certificate: Certificate | None = None
    reason: str = ""
    kept: Kept | None = None

    @property
    def limits(self) -> tuple[str, ...]:
        """What the card of what ships says beside what its manifest holds."""
        return (LEARNT,) if self.bundle != self.main and self.student is not None and not self.student.fresh else ()

    def line(self) -> str:
        """Return the outcome as one line for the screen."""
        if self.reason:
            return f"the model ships alone: {self.reason}"
        assert self.student is not None
        if self.certificate is None:
            if self.student.nearest is None:
                return UNTOLD
            return f"{self.student.nearest:.1%} of {self.student.n:,} texts labeled as by the trained model"
        found = self.certificate
        return (
            f"static tier answers {found.share:.0%}; at most {found.alpha:.1%} of texts otherwise than the model alone "
            f"(certified on {found.n:,} texts, {1 - found.delta:.0%} confidence)"
        )


def make_tiers(job: Job, final: Final, shipped: Candidate, main: Path, *, metrics: Sequence[Metric], facts: Facts) -> Tiers:
    """Return what ships, given the bundle of the trained model alone.

    Args:
        job: the run.
        final: what the model was trained on.
        shipped: the candidate that it is.
        main: its bundle, as the step `bundle` made it.
        metrics: of the model.
        facts: for the manifest.

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
    if config.tiers == "cascade" and len(job.pool.aside) < need:
        found = f"{len(job.pool.aside):,} texts are set aside of data.pool"
        reason = f"{found}, and no threshold can be certified on fewer than {need:,}: give a pool of {2 * need:,} texts or more"
        return Tiers(config.tiers, main, main, reason=reason)
    made = _Maker(StudentMaker(job, final, shipped, main, teacher))
    student = made.school.student()
    if config.tiers == "static":
        return made.static(student, facts)
    return made.cascade(student, config, metrics, facts)


@dataclass(frozen=True)
class _Maker:
    """Makes the bundles that a student is in."""

    school: StudentMaker

    def static(self, student: Student, facts: Facts) -> Tiers:
        """Return the student alone, or TF-IDF that was taught the same where that agrees more with the teacher."""
        folder = self.school.job.folder
        metrics = () if student.nearest is None else (share_of(AGREEMENT, student.nearest, student.n),)
        extra = {
            "texts": digest([self.school.job.pool.texts, self.school.job.pool.aside]),
            "lineage": facts.model_dump(mode="json"),
        }

        def make(out: Path) -> None:
            bundle = shutil.copytree(self.school.bundle(rival=student.loses), out / "bundle")
            told = {"metrics": figures_of(metrics), **dict(_formed(facts, "static"))}
            restate(bundle, load(bundle).manifest.model_copy(update=told), limits=() if student.fresh else (LEARNT,))

        step = folder.step(STEPS["tiers"], make, config=settings_of(self.school.job.task.config), extra=extra)
        return Tiers("static", step / "bundle", self.school.main, "tiers", student, kept=self.school.kept())

    def cascade(self, student: Student, config: CompressConfig, metrics: Sequence[Metric], facts: Facts) -> Tiers:
        """Return the student before its teacher where a threshold can be certified, else the teacher alone."""
        job, main = self.school.job, self.school.main
        bars = {"alpha": config.disagreement, "delta": config.delta}
        extra = {"texts": digest([job.pool.texts, job.pool.aside]), "lineage": facts.model_dump(mode="json")}

        def make(out: Path) -> None:
            save(out / "bundle", self._both(bars, metrics, facts))
            if not self._certified(out, bars, () if student.fresh else (LEARNT,)):
                shutil.rmtree(out / "bundle")

        step = job.folder.step(STEPS["tiers"], make, config=settings_of(job.task.config), extra=extra)
        if not (step / "bundle").exists():
            reason = (
                f"no threshold keeps the disagreement at {config.disagreement:.1%} on {len(job.pool.aside):,} texts and "
                f"lets the static tier answer {LEAST_SHARE:.0%} of them"
            )
            return Tiers("cascade", main, main, student=student, reason=reason)
        bundle = step / "bundle"
        early = load(bundle).manifest.tiers[0].early
        assert early is not None
        return Tiers("cascade", bundle, main, "tiers", student, early.certificate, kept=kept_in(step, self.school.teacher))

    def _certified(self, out: Path, bars: Mapping[str, float], limits: Sequence[str]) -> bool:
        """Certify a cascade by what its two tiers, loaded, say of the texts set aside, and write that into its manifest.

        Returns:
            whether a threshold passes.
        """
        model, texts = load(out / "bundle"), [row.text for row in self.school.job.pool.aside]
        kind, (first, last) = model.manifest.answers, model.manifest.tiers
        assert first.early is not None
        fast, slow = model.by_tier(texts)
        found = certify(fast.exit_confidence, np.asarray(kind.right(slow.answers, fast.answers) == 0), **bars)
        if found is None:
            return False
        certificate = Certificate(
            **bars,
            n=len(texts),
            answered=found.answered,
            disagreed=found.disagreed,
            profile=tuple(profile_of(fast.exit_confidence, texts).tolist()),
            assumptions=ASSUMPTIONS,
        )
        early = first.early.model_copy(update={"threshold": found.threshold, "certificate": certificate})
        tiers = (first.model_copy(update={"early": early}), last)
        restate(out / "bundle", model.manifest.model_copy(update={"tiers": tiers}), limits=limits)
        said, mine = np.array(slow.answers), fast.exit_confidence >= found.threshold
        said[mine] = fast.answers[mine]
        write_answers(out, theirs=slow.answers, said=said)
        return True

    def _both(self, bars: Mapping[str, float], metrics: Sequence[Metric], facts: Facts) -> Contents:
        """Return the bundle of the student in front of its teacher, which nothing certifies yet."""
        school, head = self.school, load_file(self.school.main / HEAD)
        manifest, (predictor, calibration) = school.teacher.manifest, school.predictor()
        last = manifest.last
        several = manifest.answers.several or manifest.answers.spans
        confidence: Confidence = "answer" if several else "odds"
        nothing = Certificate(**bars, n=1, answered=0, disagreed=0, profile=(0,) * PROFILE, assumptions=("not certified yet",))
        early = EarlyExit(threshold=1.0, confidence=confidence, certificate=nothing)
        slow = pack_graphs(
            school.main,
            LinearHead(head["weights"], head["bias"]),
            last.max_tokens or 0,
            prefix=last.prefix,
            windows=last.windows,
            words=last.spec.words,
        )
        reference = school.final.predictors(school.job.context)[school.shipped]
        return Contents(
            labels={label.name: label.description for label in manifest.labels},
            language=manifest.language,
            task=manifest.task,
            tiers=[
                TierContents(pack(predictor, school.main), predictor, calibration, early=early),
                TierContents(slow, reference, manifest.calibration),
            ],
            metrics=[replace(metric, name=f"{metric.name} of the second tier") for metric in metrics],
            facts=_formed(facts, "cascade"),
        )


def _formed(facts: Facts, form: str) -> Facts:
    """Return the facts of a bundle in another form."""
    return facts.model_copy(update={"lineage": {**facts.lineage, "form": form}})
