"""The report's section on compression: the forms that the model was made in, the certificate, or why there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.model import Model, load
from refsynth.compress.contract import ContractOutcome, ModelVariant, asked_of
from refsynth.compress.tiers import UNTOLD
from refsynth.core.intervals import share_of
from refsynth.core.run import size_of
from refsynth.core.types import Metric, kept
from refsynth.evaluation import sections
from refsynth.evaluation.testfile import SHIPPED
from refsynth.kinds import KINDS
from refsynth.pipeline.evidence import Evidence

TIMED = 128
"""Texts in the batch that speed is taken on."""

TURNS = 3


def speeds(models: Sequence[Model], evidence: Evidence) -> list[float]:
    """Return texts per second of each model on a batch of the run's own texts, the models in turn, the median of a few."""
    final = evidence.learned.final
    texts = [example.text for example in (*final.real, *kept(final.drafts))][:TIMED]
    rates: list[list[float]] = [[] for _ in models]
    for model in models:
        model.logits(texts[:8])
    for _ in range(TURNS):
        for model, found in zip(models, rates, strict=True):
            started = time.perf_counter()
            model.logits(texts)
            found.append(len(texts) / (time.perf_counter() - started))
    return [median(found) for found in rates]


def chosen_of(evidence: Evidence) -> dict[str, Any]:
    """Return the temperature and threshold of what ships where labeled rows chose them, else a sentence on those that it has."""
    tiers, student = evidence.tiers, evidence.tiers.student
    if tiers.bundle == tiers.main or student is None:
        found = evidence.calibrated
        return {"threshold": found.threshold, "temperature": found.temperature, "choices": found.choices}
    manifest = load(tiers.bundle).manifest
    seen = "has not learnt from" if student.fresh else "has learnt from, of which it is surer than of others"
    drawn = f"fitted to what the trained model holds likely of texts that it {seen}: no label was known there"
    if len(manifest.tiers) == 1:
        return {"threshold": None, "temperature": None, "how": f"What ships has {_bars(manifest.calibration)}, {drawn}."}
    fast, slow = _bars(manifest.tiers[0].calibration), _bars(manifest.calibration)
    how = f"The static tier has {fast}, {drawn}. The encoder has {slow}, fitted to held-out real rows."
    return {"threshold": None, "temperature": None, "how": how}


def _bars(calibration: Calibration) -> str:
    silent = f"is unsure below {calibration.threshold:.2f}" if calibration.threshold else "always answers"
    return f"the temperature {calibration.temperature:.2f} and {silent}"


def compression_of(evidence: Evidence) -> sections.Compression | None:
    """Return the section; None where the model ships as it was trained because nothing else was asked for."""
    tiers, student = evidence.tiers, evidence.tiers.student
    measure = KINDS[evidence.task.config.task].measure
    found = sections.Compression(
        variants=(),
        measure=measure,
        student=None if student is None else _share("student and teacher", student.agreement, student.n),
        rival=None if student is None else _share("TF-IDF and teacher", student.rival, student.n),
        reason=tiers.reason,
        notes=(f"{UNTOLD[0].upper()}{UNTOLD[1:]}.",) if student is not None and student.agreement is None else (),
        cascade=_cascade(evidence),
    )
    if evidence.shrunk.outcome is not None:
        return _contracted(found, evidence, evidence.shrunk.outcome)
    if tiers.wanted == "one":
        return None
    folders = [tiers.main] if tiers.main == tiers.bundle else [tiers.main, tiers.bundle]
    models = [load(folder) for folder in folders]
    test = evidence.measured
    k, kind = len(evidence.task.labels), KINDS[evidence.task.config.task]
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
    return replace(found, variants=variants)


def _share(name: str, share: float | None, n: int) -> Metric | None:
    return None if share is None else share_of(name, share, n)


def _contracted(found: sections.Compression, evidence: Evidence, outcome: ContractOutcome) -> sections.Compression:
    """Add the forms that the contract was searched among, and which of them ships."""
    held = evidence.learned.held

    def variant(form: ModelVariant) -> sections.Variant:
        shipped = form.name == outcome.shipped.name
        alone = evidence.tiers.bundle == evidence.tiers.main
        said = evidence.shrunk.logits if shipped and alone else None
        measured = None if held is None or said is None else held.score_of(said)
        return sections.Variant(
            name=form.name,
            size_mb=form.size_mb,
            p50_ms=form.p50_ms,
            kept=form.kept,
            range=None if form.interval is None else (form.interval.low, form.interval.high),
            score=measured,
            shipped=shipped,
        )

    return replace(
        found,
        variants=tuple(variant(form) for form in outcome.forms),
        asked=str(asked_of(evidence.task.config)),
        met=outcome.met,
        choice=f"The {'smallest' if outcome.tried else 'largest'} form that keeps to it ships.",
        notes=(*found.notes, *_notes(evidence, outcome)),
    )


def _notes(evidence: Evidence, outcome: ContractOutcome) -> Iterator[str]:
    """Yield what the interval of the form that ships is, and of which forms it cannot be told what they keep."""
    shipped, tried = outcome.shipped, outcome.tried
    if shipped.kept is not None and (found := shipped.interval) is not None:
        over = f"{found.n:,} held-out rows"
        if shipped.name == evidence.tiers.wanted:
            over = "texts: its answers against the model's on unlabeled texts, times what int8 keeps on held-out rows"
        yield f"What ships keeps {shipped.kept:.1%} [{found.low:.1%}, {found.high:.1%}], by a paired bootstrap over {over}."
        if tried > 1:
            level = f"the interval is at {found.level:.2%}, so that those of all {tried} hold together 95 times of 100"
            yield f"{tried} forms were measured to choose it: {level}."
    if outcome.untold:
        why = "no rows could be held out" if evidence.learned.held is None else "neither rows nor texts can show it"
        yield f"What is kept cannot be told, because {why}, of: {', '.join(outcome.untold)}."


def _name(model: Model) -> str:
    if model.variant == "exact":
        return "CRF, taught by the model" if model.manifest.answers.spans else "TF-IDF, taught by the model"
    return "static student" if model.variant == "static" else "cascade of both"


def _cascade(evidence: Evidence) -> sections.Cascade | None:
    found = evidence.tiers.certificate
    early = load(evidence.tiers.bundle).manifest.tiers[0].early
    if found is None or early is None:
        return None
    return sections.Cascade(
        alpha=found.alpha,
        delta=found.delta,
        n=found.n,
        threshold=early.threshold,
        answered=share_of("answered by the static tier", found.share, found.n),
        disagreed=share_of("answered otherwise", found.disagreed / found.n, found.n),
        assumptions=found.assumptions,
        void=None if evidence.test is None else evidence.test.void,
    )
