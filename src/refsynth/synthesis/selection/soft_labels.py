"""What the reference says of each draft's class: asked once a run, kept as a step, and used in every fold.

It may be, because its prompts show descriptions only, and so does the encoder that makes its shortlist. Calibration is left to
whoever uses the answers: it then rests on no draft that a fold must not see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from refsynth.core.protocols import Encoder, Generator
from refsynth.core.run import read_jsonl, write_json, write_jsonl
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import Draft, FloatArray, kept
from refsynth.kinds.metrics import softmax
from refsynth.learning.job import Job
from refsynth.models.predict import EncoderPredictor, LinearHead
from refsynth.models.reference.context import reference_key
from refsynth.synthesis.prompts import can_write, class_prompts, generic_prompt, known_only
from refsynth.synthesis.selection.reference_judge import ReferenceJudge, Shortlist, calibrated

ASKED_LABELS = 8
"""Labels that the reference is asked about for one text: those whose descriptions its embedding is nearest to."""

TEMPERATURE = 0.2
"""Of the posterior, in nats per token: of least log loss on three sets that no table is about (design/022-constants.md)."""


def reference_judge(task: Task, language: str, generator: Generator, encoder: Encoder) -> ReferenceJudge:
    """Return the reference as a judge of class that has seen descriptions only."""
    nearest = LinearHead(np.asarray(encoder.encode(list(task.descriptions.values())), float).T, np.zeros(len(task.labels)))
    shortlist = Shortlist(EncoderPredictor(task.labels, encoder, nearest), ASKED_LABELS)
    return ReferenceJudge(
        generator,
        class_prompts(task.meanings, language),
        generic_prompt(language=language),
        temperature=TEMPERATURE,
        shortlist=shortlist,
    )


def judge_drafts(job: Job, drafts: Sequence[Draft], make_generator: Callable[[], Generator], *, reference: str) -> list[Draft]:
    """Return the screened drafts; those that are still in say how likely the reference finds them under each label.

    `reference` is the hash of what it has learned before it is asked.
    """
    task, language, encoder = job.task, job.rows.language, job.context.encoder
    if not can_write(task, language):
        who = f"the reference '{task.config.writer.name}' reads {known_only(task)}"
        job.watch.note(f"{who}: a model of the real rows alone says what drafts teach")
        return list(drafts)

    def make(out: Path) -> None:
        texts = [example.text for example in kept(drafts)]
        ratios = reference_judge(task, language, make_generator(), encoder).ratios(texts) if texts else np.zeros((0, 0))
        said = iter(ratios)
        judged = [draft if draft.dropped else _with_likelihoods(draft, task.labels, next(said)) for draft in drafts]
        write_jsonl(out / "drafts.jsonl", [draft.to_json() for draft in judged])
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
