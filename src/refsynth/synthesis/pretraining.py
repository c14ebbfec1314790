"""The steps of pretraining: the encoder and the reference learn from the texts of the pool, before any label is used.

An encoder that predicts words better need not be better for the task. So its frozen embeddings are compared with those of the
original encoder: a logistic head on each is measured on held-out real rows, and the original stays unless pretraining wins.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import derive_seed, digest, file_digest
from refsynth.core.observe import Observer
from refsynth.core.run import RunFolder
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
from refsynth.learning.selftrain import UnlabeledText
from refsynth.learning.tuning.pretrain import Held, TimeBudget, WordModel, fit_head, fit_words, pseudo_perplexity
from refsynth.models.device import device_named
from refsynth.models.encoders import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.reference.context import reference_key
from refsynth.synthesis.build import MODEL, WEIGHTS, ReferenceSource, convert_trained
from refsynth.synthesis.prompts import can_write, generic_prompt
from refsynth.synthesis.reinforcement.policy import Policy
from refsynth.synthesis.reinforcement.supervised import nats_per_token, train_on_texts

LEAST_TEXTS = 50
"""Fewer texts teach nothing and leave none to measure on."""

HELD_SHARE, MOST_HELD = 0.2, 200
"""Share of the texts that is held out: half for early stopping and half for measuring, each at most `MOST_HELD`."""

FACTS = "facts.json"


def summary_line(result: Pretraining) -> str:
    """Return the result of pretraining as one line for the screen."""
    kind = "pseudo-perplexity" if result.model == "encoder" else "perplexity"
    values = f"{kind} {result.before:.1f} -> {result.after:.1f} on {result.held:,} others"
    words = f"{result.model}, {result.texts:,} texts: {values}"
    if result.gain is None:
        return words if result.used else f"{words}; not used"
    return f"{words}; frozen on held-out rows {points(result.gain)} -> {'used' if result.used else 'not used'}"


class TextSplit(NamedTuple):
    """Texts to train on, for early stopping and to measure on. None of the latter two resembles a training text."""

    train: tuple[str, ...]
    stopping: tuple[str, ...]
    measured: tuple[str, ...]


def divide(texts: Sequence[str], *, seed: int) -> TextSplit | None:
    """Split texts at random; None if there are too few."""
    if len(texts) < LEAST_TEXTS:
        return None
    order = np.random.default_rng(seed).permutation(len(texts))
    count = min(int(HELD_SHARE * len(texts)), 2 * MOST_HELD)
    held, train = ([texts[place] for place in places] for places in (order[:count], order[count:]))
    fresh = [text for text, share in zip(held, nearest_overlap(held, train), strict=True) if share < NEAR]
    half = len(fresh) // 2
    return TextSplit(tuple(train), tuple(fresh[:half]), tuple(fresh[half:])) if half else None


def too_few(what: str, texts: Sequence[object]) -> str:
    """Return the note for a pool with too few texts."""
    return f"pretrain.{what}: found {len(texts)} usable texts in the pool, expected {LEAST_TEXTS}; the {what} stays as it is"


class StartEncoder(NamedTuple):
    """The folder of the encoder to start from, and the result of pretraining; None without pretraining."""

    folder: Path
    pretraining: Pretraining | None


def pretrain_encoder(
    task: Task,
    rows: Rows,
    start: Path,
    texts: Sequence[UnlabeledText],
    folder: RunFolder,
    watch: Observer,
    *,
    again: bool,
) -> StartEncoder:
    """Return the encoder that a run starts from: the one in `start`, or the same pretrained on masked words of the texts.

    Args:
        task: the task of the run.
        rows: the real rows, for measuring; nothing learns from them here.
        start: the folder of the original encoder.
        texts: the texts of the pool that may be learned from.
        folder: the run folder.
        watch: receives notes and progress.
        again: whether texts that resemble test rows were removed. The result is then a step of another name: if it replaced the
            first, a repeated run would make both again.
    """
    settings = task.config.pretrain
    if not settings.encoder:
        return StartEncoder(start, None)
    seed = derive_seed(task.config.seed, "pretrain")
    split = divide([row.text for row in texts], seed=seed)
    if split is None:
        watch.note(too_few("encoder", texts))
        return StartEncoder(start, None)
    spec, longest, windows = encoder_for(rows.language), task.config.training.max_tokens, task.config.windows

    def load(path: Path) -> TransformerEncoder:
        device = device_named(task.config.device)
        return TransformerEncoder(path, prefix=spec.prefix, max_tokens=longest, windows=windows, device=device)

    config, step = settings_of(task.config), STEPS["pretrain_encoder"]
    extra = {
        "texts": digest(split),
        "encoder": file_digest(start / "model.safetensors"),
        "language": rows.language,
        "longest": [longest, windows],
    }

    def make(out: Path) -> None:
        encoder = load(start)
        model = WordModel(encoder, seed=seed)
        budget = TimeBudget(settings.encoder, checkpoint)
        train, stopping, measured = (encoder.tokenize(part, limit=longest) for part in split)
        held = Held(stopping, measured)
        with watch.progress("pretrain the encoder", 2) as progress:
            fit_head(model, train, held, budget._replace(checkpoint=checkpoint.with_suffix(".head")), seed=seed)
            before = pseudo_perplexity(model, measured)
            progress(1)
            fit_words(model, train, held, budget, seed=seed)
            progress(2)
        encoder.save(out / MODEL)
        facts = {"texts": len(train), "held": len(measured), "before": before, "after": pseudo_perplexity(model, measured)}
        write_json(out / FACTS, facts)

    key = folder.key_of(step, make, config=config, extra=extra)
    checkpoint = folder.path / "checkpoints" / f"pretrain_encoder-{digest(key)[:16]}.safetensors"
    done = folder.step(step, make, config=config, name="pretrain_encoder-again" if again else None, extra=extra)
    facts, gain, better = read_json(done / FACTS), None, False
    if rows.measurable:
        gain, better = _compare(task, rows, load(start), load(done / MODEL))
    result = Pretraining(model="encoder", **facts, gain=gain, used=better or settings.use == "always")
    watch.stage("pretrain", summary_line(result))
    return StartEncoder(done / MODEL if result.used else start, result)


def _compare(task: Task, rows: Rows, plain: TransformerEncoder, pretrained: TransformerEncoder) -> tuple[Metric, bool]:
    """Return the gain of frozen embeddings on held-out real rows, paired by row, and whether it is significant."""
    held = HeldOut.of(rows, task.labels, deals_of(task, rows))
    before, after = (_held_out(task, rows, encoder) for encoder in (plain, pretrained))
    chance = sign_flip(held.differences(before, after)[None], held.groups)[0]
    return held.gain(held.scores_of(before), held.scores_of(after)), bool(chance <= FALSE_ACCEPTS)


def _held_out(task: Task, rows: Rows, encoder: TransformerEncoder) -> FloatArray:
    """Return the logits [R, N, K] that a logistic head on an encoder's embeddings gives each row while its fold is held out."""
    link: Link = "sigmoid" if rows.kind.several else "softmax"
    learner = FrozenLearner(task.labels, encoder, link=link)
    out: FloatArray = np.zeros((task.config.gate.repeats, len(rows.examples), len(task.labels)))
    for fold in folds_of(task, rows):
        out[fold.repeat, fold.places] = learner.fit(fold.train, (), seed=0).logits(fold.texts)
    return out


class AdaptedReference(NamedTuple):
    """The source of the reference that writes, and the result of pretraining; None without pretraining."""

    source: ReferenceSource
    pretraining: Pretraining | None


def pretrain_reference(job: Job, source: ReferenceSource) -> AdaptedReference:
    """Return the reference, pretrained on the texts of the pool under the prompt that names no label.

    It stays as it is if pretraining is off or the run asks for no drafts. `source` is the original reference.
    """
    task, rows, texts, folder, watch = job.task, job.rows, job.pool.texts, job.folder, job.watch
    config, seed = task.config, derive_seed(task.config.seed, "pretrain")
    if not (config.pretrain.reference and config.synthesis.drafts and can_write(task, rows.language)):
        return AdaptedReference(source, None)
    split = divide([row.text for row in texts], seed=seed)
    if split is None:
        watch.note(too_few("reference", texts))
        return AdaptedReference(source, None)
    settings, step = settings_of(config), STEPS["pretrain_reference"]
    extra = {"texts": digest(split), "reference.content": reference_key(config), "language": rows.language}
    prompt = generic_prompt(language=rows.language).text

    def make(out: Path) -> None:
        weights = source.weights(config)
        policy = Policy(weights.folder, start=weights.start, kl=0.0, seed=seed, device=task.config.device)
        minutes, before = config.pretrain.reference, nats_per_token(policy, prompt, split.measured)
        turns = []
        with watch.progress("pretrain the reference", round(60 * minutes)) as progress:
            for turn in train_on_texts(policy, prompt, split.train, split.stopping, scratch, minutes=minutes, seed=seed):
                turns.append(turn)
                progress(min(round(60 * minutes), round(sum(each.seconds for each in turns))))
        policy.export(out / WEIGHTS)
        convert_trained(config, out / WEIGHTS, out / MODEL)
        best = min(turns, key=lambda turn: turn.loss)
        after = nats_per_token(policy, prompt, split.measured)
        losses = {"before": float(np.exp(before)), "after": float(np.exp(after))}
        write_json(out / FACTS, {"texts": best.texts, "held": len(split.measured), **losses})

    scratch = folder.path / "reinforce" / f"texts-{digest(folder.key_of(step, make, config=settings, extra=extra))[:12]}"
    done = folder.step(step, make, config=settings, name="pretrain_reference-again" if job.forget else None, extra=extra)
    shutil.rmtree(scratch, ignore_errors=True)
    facts = read_json(done / FACTS)
    result = Pretraining(model="reference", **facts, gain=None, used=facts["after"] < facts["before"])
    watch.stage("pretrain", summary_line(result))
    return AdaptedReference(source._replace(trained=done, hash=folder.hash_of(done.name)) if result.used else source, result)
