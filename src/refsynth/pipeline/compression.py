"""The report's section on compression: the forms of the model, and the certificate or the reason why there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.model import Model, load
from refsynth.compress.contract import ContractOutcome, ModelVariant, contract_of
from refsynth.compress.tiers import UNTOLD
from refsynth.core.files import size_of
from refsynth.core.intervals import share_of
from refsynth.core.types import Metric, kept
from refsynth.evaluation import sections
from refsynth.evaluation.testfile import SHIPPED
from refsynth.pipeline.evidence import Evidence

TIMED = 128
"""Texts in the batch on which speed is measured."""

REPEATS = 3


def speeds(models: Sequence[Model], evidence: Evidence) -> list[float]:
    """Return the texts per second of each model: the median of a few batches of the run's own texts, models interleaved."""
    final = evidence.learned.final
    texts = [example.text for example in (*final.real, *kept(final.drafts))][:TIMED]
    rates: list[list[float]] = [[] for _ in models]
    for model in models:
        model.logits(texts[:8])
    for _ in range(REPEATS):
        for model, own in zip(models, rates, strict=True):
            started = time.perf_counter()
            model.logits(texts)
            own.append(len(texts) / (time.perf_counter() - started))
    return [median(own) for own in rates]


def chosen_of(evidence: Evidence) -> dict[str, Any]:
    """Return temperature and threshold of what ships if labeled rows chose them, else a sentence on how they were fitted."""
    tiers, student = evidence.tiers, evidence.tiers.student
    if tiers.bundle == tiers.main or student is None:
        calibrated = evidence.calibrated
        return {"threshold": calibrated.threshold, "temperature": calibrated.temperature, "choices": calibrated.choices}
    manifest = load(tiers.bundle).manifest
    texts = "new texts" if student.fresh else "its own training texts, where it is overconfident"
    fitted = f"fitted to the probabilities of the trained model on {texts}, without true labels"
    if len(manifest.tiers) == 1:
        return {"threshold": None, "temperature": None, "how": f"What ships has {_described(manifest.calibration)}, {fitted}."}
    fast, slow = _described(manifest.tiers[0].calibration), _described(manifest.calibration)
    how = f"The static tier has {fast}, {fitted}. The encoder has {slow}, fitted to held-out real rows."
    return {"threshold": None, "temperature": None, "how": how}


def _described(calibration: Calibration) -> str:
    abstains = f"is unsure below {calibration.threshold:.2f}" if calibration.threshold else "always answers"
    return f"the temperature {calibration.temperature:.2f} and {abstains}"


def compression_of(evidence: Evidence) -> sections.Compression | None:
    """Return the section, or None if the task asked for no other form than the model as trained."""
    tiers, student, kind = evidence.tiers, evidence.tiers.student, evidence.learned.rows.kind
    section = sections.Compression(
        variants=(),
        measure=kind.measure,
        student=None if student is None else _share("student and teacher", student.agreement, student.n),
        rival=None if student is None else _share("TF-IDF and teacher", student.rival, student.n),
        reason=tiers.reason,
        notes=(f"{UNTOLD[0].upper()}{UNTOLD[1:]}.",) if student is not None and student.agreement is None else (),
        cascade=_cascade(evidence),
    )
    if evidence.shrunk.outcome is not None:
        return _contracted(section, evidence, evidence.shrunk.outcome)
    if tiers.requested == "one":
        return None
    folders = [tiers.main] if tiers.main == tiers.bundle else [tiers.main, tiers.bundle]
    models = [load(folder) for folder in folders]
    test = evidence.measured
    k = len(evidence.task.labels)
    score = None if test is None else kind.figures(test.truth, test.predicted[SHIPPED], k, test.groups)[0]
    variants = tuple(
        sections.Variant(
            name="the model alone (int8)" if folder == tiers.main and model.variant != "exact" else _name(model),
            size_mb=size_of(folder),
            texts_per_second=rate,
            shipped=folder == tiers.bundle,
            score=score if folder == tiers.bundle else None,
        )
        for folder, model, rate in zip(folders, models, speeds(models, evidence), strict=True)
    )
    return replace(section, variants=variants)


def _share(name: str, share: float | None, n: int) -> Metric | None:
    return None if share is None else share_of(name, share, n)


def _contracted(section: sections.Compression, evidence: Evidence, outcome: ContractOutcome) -> sections.Compression:
    """Add the forms among which the search chose, and which of them ships."""
    held = evidence.learned.held

    def variant(form: ModelVariant) -> sections.Variant:
        shipped = form.name == outcome.shipped.name
        alone = evidence.tiers.bundle == evidence.tiers.main
        logits = evidence.shrunk.logits if shipped and alone else None
        return sections.Variant(
            name=form.name,
            size_mb=form.size_mb,
            p50_ms=form.p50_ms,
            kept=form.kept,
            range=None if form.interval is None else (form.interval.low, form.interval.high),
            score=None if held is None or logits is None else held.score_of(logits),
            shipped=shipped,
        )

    return replace(
        section,
        variants=tuple(variant(form) for form in outcome.forms),
        asked=str(contract_of(evidence.task.config)),
        met=outcome.met,
        choice=f"The {'smallest' if outcome.tried else 'largest'} form that meets it ships.",
        notes=(*section.notes, *_notes(evidence, outcome)),
    )


def _notes(evidence: Evidence, outcome: ContractOutcome) -> Iterator[str]:
    """Yield notes on the interval of the shipped form, and on the forms whose quality could not be measured."""
    shipped, tried = outcome.shipped, outcome.tried
    if shipped.kept is not None and (interval := shipped.interval) is not None:
        over = f"{interval.n:,} held-out rows"
        if shipped.name == evidence.tiers.requested:
            over = "texts: its agreement with the model on unlabeled texts, times what int8 keeps on held-out rows"
        span = f"[{interval.low:.1%}, {interval.high:.1%}]"
        yield f"What ships keeps {shipped.kept:.1%} {span}, by a paired bootstrap over {over}."
        if tried > 1:
            level = f"the interval has the level {interval.level:.2%}, so that all {tried} hold together 95 times in 100"
            yield f"{tried} forms were measured to choose it: {level}."
    if outcome.untold:
        why = "no rows could be held out" if evidence.learned.held is None else "neither rows nor texts can show it"
        yield f"What these forms keep is unknown, because {why}: {', '.join(outcome.untold)}."


def _name(model: Model) -> str:
    if model.variant == "exact":
        return f"{'CRF' if model.manifest.answers.words else 'TF-IDF'}, taught by the model"
    return "static student" if model.variant == "static" else "cascade of both"


def _cascade(evidence: Evidence) -> sections.Cascade | None:
    certificate = evidence.tiers.certificate
    early = load(evidence.tiers.bundle).manifest.tiers[0].early
    if certificate is None or early is None:
        return None
    n = certificate.n
    return sections.Cascade(
        alpha=certificate.alpha,
        delta=certificate.delta,
        n=n,
        threshold=early.threshold,
        answered=share_of("answered by the static tier", certificate.share, n),
        disagreed=share_of("answered otherwise", certificate.disagreed / n, n),
        assumptions=certificate.assumptions,
        void=None if evidence.test is None else evidence.test.void,
    )
