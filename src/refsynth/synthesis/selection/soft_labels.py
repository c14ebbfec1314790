"""The reference's likelihoods of each draft's labels: asked once per run, stored as a step, and used in every fold.

Every fold may use them: the prompts and the encoder that makes the shortlist see only descriptions, no rows. Calibration happens
in each fold, so that it uses no draft that the fold must not see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from refsynth.core.files import read_jsonl, write_json, write_jsonl
from refsynth.core.protocols import Encoder, Generator
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import Draft, FloatArray, kept
from refsynth.kinds.metrics import softmax
from refsynth.learning.job import Job
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.reference.context import reference_key
from refsynth.synthesis.prompts import can_write, class_prompts, generic_prompt, known_only
from refsynth.synthesis.selection.reference_classifier import ReferenceClassifier, Shortlist, calibrated

ASKED_LABELS = 8
"""Labels per text that the reference is asked about: those with the descriptions nearest to its embedding."""

TEMPERATURE = 0.2
"""Of the posterior, in nats per token: the smallest log loss on three sets outside of the README's tables (design/022)."""


def reference_classifier(task: Task, language: str, generator: Generator, encoder: Encoder) -> ReferenceClassifier:
    """Return the reference as a classifier that has seen only descriptions."""
    nearest = LinearHead(np.asarray(encoder.encode(list(task.descriptions.values())), float).T, np.zeros(len(task.labels)))
    shortlist = Shortlist(EncoderPredictor(task.labels, encoder, nearest), ASKED_LABELS)
    return ReferenceClassifier(
        generator,
        class_prompts(task.meanings, language),
        generic_prompt(language=language),
        temperature=TEMPERATURE,
        shortlist=shortlist,
    )


def judge_drafts(job: Job, drafts: Sequence[Draft], make_generator: Callable[[], Generator], *, reference: str) -> list[Draft]:
    """Return the screened drafts; the kept ones carry the reference's likelihood of each label.

    `reference` is the hash of the weights that the reference was trained to, if it was.
    """
    task, language, encoder = job.task, job.rows.language, job.context.encoder
    if not can_write(task, language):
        reads = f"the reference '{task.config.reference_spec.name}' reads {known_only(task)}"
        job.watch.note(f"{reads}: the targets of drafts come only from a model of the real rows")
        return list(drafts)

    def make(out: Path) -> None:
        texts = [example.text for example in kept(drafts)]
        ratios = reference_classifier(task, language, make_generator(), encoder).ratios(texts) if texts else np.zeros((0, 0))
        rows = iter(ratios)
        scored = [draft if draft.dropped else _with_likelihoods(draft, task.labels, next(rows)) for draft in drafts]
        write_jsonl(out / "drafts.jsonl", [draft.to_json() for draft in scored])
        write_json(out / "facts.json", {"texts": len(texts), "pairs": int(np.isfinite(ratios).sum()) + len(texts)})

    extra = {"encoder": job.context.encoder_hash, "reference": reference, "reference.content": reference_key(task.config)}
    done = job.folder.step(STEPS["judged"], make, config=settings_of(task.config), extra=extra)
    return [Draft.from_json(record) for record in read_jsonl(done / "drafts.jsonl")]


def _with_likelihoods(draft: Draft, labels: Sequence[str], ratios: FloatArray) -> Draft:
    return replace(
        draft, likelihoods={label: float(value) for label, value in zip(labels, ratios, strict=True) if np.isfinite(value)}
    )


def posteriors(drafts: Sequence[Draft], labels: Sequence[str]) -> FloatArray:
    """Return the reference's calibrated posterior of each draft [M, K]; NaN for a draft that it was not asked about."""
    ratios = np.array([[draft.likelihoods.get(label, -np.inf) for label in labels] for draft in drafts]).reshape(-1, len(labels))
    unasked = np.isneginf(ratios).all(1)
    out = np.full(ratios.shape, np.nan)
    out[~unasked] = softmax(calibrated(ratios[~unasked]) / TEMPERATURE)
    return out
