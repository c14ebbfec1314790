"""Pretraining as steps: the encoder and the reference learn from the texts of the pool, before any label is used.

An encoder that guesses words better need not be better for the task. What is known of that is its frozen embeddings under a
logistic head, on held-out real rows, with and without: unless it wins there, the encoder stays as it came.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsynth.core.observe import Observer
from refsynth.core.run import RunFolder, derive_seed, digest, file_digest, read_json, write_json
from refsynth.core.settings import settings_of
from refsynth.core.signflip import sign_flip
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import FloatArray, Metric
from refsynth.data.text import NEAR, nearest_overlap
from refsynth.evaluation.headline import points
from refsynth.evaluation.origins import Pretraining
from refsynth.learning.baseline import FrozenLearner
from refsynth.learning.folds import deals_of, folds_of
from refsynth.learning.gate import FALSE_ACCEPTS
from refsynth.learning.head import Link
from refsynth.learning.held import HeldOut
from refsynth.learning.job import Job
from refsynth.learning.rows import Rows
from refsynth.learning.selftrain import Unlabelled
from refsynth.learning.tuning.pretrain import Held, TimeBudget, WordModel, fit_head, fit_words, pseudo_perplexity
from refsynth.models.device import device_named
from refsynth.models.encoders import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.reference.context import reference_key
from refsynth.synthesis.build import MODEL, WEIGHTS, ReferenceSource, ready_trained
from refsynth.synthesis.prompts import can_write, generic_prompt
from refsynth.synthesis.reinforcement.policy import Policy
from refsynth.synthesis.reinforcement.supervised import imitate, nats_per_token

LEAST_TEXTS = 50
"""Fewer teach nothing, and leave none to measure on."""

HELD_SHARE, MOST_HELD = 0.2, 200
"""Of the texts, what is not learnt from: half tells when to stop, half is measured on."""

FACTS = "facts.json"


def line_of(brought: Pretraining) -> str:
    """Return what pretraining brought, as one line for the screen."""
    kind = "pseudo-perplexity" if brought.model == "encoder" else "perplexity"
    values = f"{kind} {brought.before:.1f} -> {brought.after:.1f} on {brought.held:,} others"
    words = f"{brought.model}, {brought.texts:,} texts: {values}"
    if brought.gain is None:
        return words if brought.used else f"{words}; not used"
    return f"{words}; frozen on held-out rows {points(brought.gain)} -> {'used' if brought.used else 'not used'}"


class Parts(NamedTuple):
    """Texts to learn from, to stop by and to measure on; none of the latter two resembles one of the first."""

    learnt: tuple[str, ...]
    told: tuple[str, ...]
    measured: tuple[str, ...]


def divide(texts: Sequence[str], *, seed: int) -> Parts | None:
    """Divide texts at random; None where there are too few."""
    if len(texts) < LEAST_TEXTS:
        return None
    order = np.random.default_rng(seed).permutation(len(texts))
    count = min(int(HELD_SHARE * len(texts)), 2 * MOST_HELD)
    held, learnt = ([texts[place] for place in places] for places in (order[:count], order[count:]))
    fresh = [text for text, share in zip(held, nearest_overlap(held, learnt), strict=True) if share < NEAR]
    half = len(fresh) // 2
    return Parts(tuple(learnt), tuple(fresh[:half]), tuple(fresh[half:])) if half else None


def too_few(what: str, texts: Sequence[object]) -> str:
    """Return what is said where there is nothing to learn from."""
    return (
        f"pretrain.{what}: {len(texts)} texts of the pool can be learnt from, expected {LEAST_TEXTS}; the {what} stays as it is"
    )


class Chosen(NamedTuple):
    """The folder of the encoder to start from, and what pretraining brought; None if there was none."""

    folder: Path
    brought: Pretraining | None


def pretrain_encoder(
    task: Task,
    rows: Rows,
    start: Path,
    texts: Sequence[Unlabelled],
    folder: RunFolder,
    watch: Observer,
    *,
    again: bool,
) -> Chosen:
    """Return the encoder that a run begins with: the one in `start`, or what it became by guessing words of the texts.

    Args:
        task: what is asked.
        rows: the real rows; they are not learnt from.
        start: the folder of the encoder as it comes.
        texts: of the pool, those that may be learnt from.
        folder: of the run.
        watch: is told what happens.
        again: without texts that were found to resemble test rows; the first step stays, or the same run would make both again.
    """
    asked = task.config.pretrain
    if not asked.encoder:
        return Chosen(start, None)
    seed = derive_seed(task.config.seed, "pretrain")
    parts = divide([row.text for row in texts], seed=seed)
    if parts is None:
        watch.note(too_few("encoder", texts))
        return Chosen(start, None)
    spec, longest, windows = encoder_for(rows.language), task.config.training.max_tokens, task.config.windows

    def load(path: Path) -> TransformerEncoder:
        device = device_named(task.config.device)
        return TransformerEncoder(path, prefix=spec.prefix, max_tokens=longest, windows=windows, device=device)

    settings, step = settings_of(task.config), STEPS["words"]
    begun = file_digest(start / "model.safetensors")
    extra = {"texts": digest(parts), "encoder": begun, "language": rows.language, "longest": [longest, windows]}

    def make(out: Path) -> None:
        encoder = load(start)
        model = WordModel(encoder, seed=seed)
        budget = TimeBudget(asked.encoder, checkpoint)
        learnt, told, measured = (encoder.tokenize(part, limit=longest) for part in parts)
        held = Held(told, measured)
        with watch.progress("pretrain the encoder", 2) as progress:
            fit_head(model, learnt, held, budget._replace(checkpoint=checkpoint.with_suffix(".head")), seed=seed)
            before = pseudo_perplexity(model, measured)
            progress(1)
            fit_words(model, learnt, held, budget, seed=seed)
            progress(2)
        encoder.save(out / MODEL)
        facts = {"texts": len(learnt), "held": len(measured), "before": before, "after": pseudo_perplexity(model, measured)}
        write_json(out / FACTS, facts)

    key = folder.key_of(step, make, config=settings, extra=extra)
    checkpoint = folder.path / "checkpoints" / f"words-{digest(key)[:16]}.safetensors"
    done = folder.step(step, make, config=settings, name="words-again" if again else None, extra=extra)
    facts, gain, better = read_json(done / FACTS), None, False
    if rows.judged:
        gain, better = _judge(task, rows, load(start), load(done / MODEL))
    brought = Pretraining(model="encoder", **facts, gain=gain, used=better or asked.use == "always")
    watch.stage("pretrain", line_of(brought))
    return Chosen(done / MODEL if brought.used else start, brought)


def _judge(task: Task, rows: Rows, plain: TransformerEncoder, learnt: TransformerEncoder) -> tuple[Metric, bool]:
    """Return the gain of frozen embeddings on held-out real rows, paired by row, and whether chance is a poor reason for it."""
    held = HeldOut.of(rows, task.labels, deals_of(task, rows))
    before, after = (_held_out(task, rows, encoder) for encoder in (plain, learnt))
    chance = sign_flip(held.differences(before, after)[None], held.groups)[0]
    return held.gain(held.scores_of(before), held.scores_of(after)), bool(chance <= FALSE_ACCEPTS)


def _held_out(task: Task, rows: Rows, encoder: TransformerEncoder) -> FloatArray:
    """Return the logits [R, N, K] of a logistic head on an encoder's embeddings for each row, when its fold is held out."""
    link: Link = "sigmoid" if rows.kind.several else "softmax"
    learner = FrozenLearner(task.labels, encoder, link=link)
    out: FloatArray = np.zeros((task.config.gate.repeats, len(rows.examples), len(task.labels)))
    for fold in folds_of(task, rows):
        out[fold.repeat, fold.places] = learner.fit(fold.train, (), seed=0).logits(fold.texts)
    return out


class AdaptedReference(NamedTuple):
    """Where the reference that writes comes from, and what pretraining brought; None if there was none."""

    source: ReferenceSource
    brought: Pretraining | None


def pretrain_reference(job: Job, source: ReferenceSource) -> AdaptedReference:
    """Return the reference after it has learned to write like the pool, in the form in which it is asked for one more.

    It stays as it is where that is not asked for, or nothing is to be written. `source` is of the reference as it comes.
    """
    task, rows, texts, folder, watch = job.task, job.rows, job.pool.texts, job.folder, job.watch
    config, seed = task.config, derive_seed(task.config.seed, "pretrain")
    if not (config.pretrain.reference and config.synthesis.drafts and can_write(task, rows.language)):
        return AdaptedReference(source, None)
    parts = divide([row.text for row in texts], seed=seed)
    if parts is None:
        watch.note(too_few("reference", texts))
        return AdaptedReference(source, None)
    settings, step = settings_of(config), STEPS["reference"]
    extra = {"texts": digest(parts), "reference.content": reference_key(config), "language": rows.language}
    prompt = generic_prompt(language=rows.language).text

    def make(out: Path) -> None:
        weights = source.weights(config)
        policy = Policy(weights.folder, start=weights.start, kl=0.0, seed=seed, device=task.config.device)
        minutes, before = config.pretrain.reference, nats_per_token(policy, prompt, parts.measured)
        turns = []
        with watch.progress("pretrain the reference", round(60 * minutes)) as progress:
            for turn in imitate(policy, prompt, parts.learnt, parts.told, scratch, minutes=minutes, seed=seed):
                turns.append(turn)
                progress(min(round(60 * minutes), round(sum(each.seconds for each in turns))))
        policy.export(out / WEIGHTS)
        ready_trained(config, out / WEIGHTS, out / MODEL)
        best = min(turns, key=lambda turn: turn.loss)
        after = nats_per_token(policy, prompt, parts.measured)
        losses = {"before": float(np.exp(before)), "after": float(np.exp(after))}
        write_json(out / FACTS, {"texts": best.texts, "held": len(parts.measured), **losses})

    scratch = folder.path / "reinforce" / f"texts-{digest(folder.key_of(step, make, config=settings, extra=extra))[:12]}"
    done = folder.step(step, make, config=settings, name="reference-again" if job.forget else None, extra=extra)
    shutil.rmtree(scratch, ignore_errors=True)
    facts = read_json(done / FACTS)
    brought = Pretraining(model="reference", **facts, gain=None, used=facts["after"] < facts["before"])
    watch.stage("pretrain", line_of(brought))
    return AdaptedReference(source._replace(learnt=done, hash=folder.hash_of(done.name)) if brought.used else source, brought)
