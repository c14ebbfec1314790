"""Reinforcement of a generator in turns: write, measure, update. Each turn is on disk before the next, so a killed run continues.

A turn writes drafts with the current policy (on-policy, with a fast engine that reads an export of it), has them measured, and
learns from some of them. What stays of a turn is small: adapter, optimizer state, figures. The exports are scratch.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from refsynth.core.files import read_json
from refsynth.core.hashes import derive_seed
from refsynth.core.protocols import Generator
from refsynth.core.types import FloatArray, IntArray, Prompt
from refsynth.synthesis.reinforcement.figures import Figures, Measure, PromptedCompletion
from refsynth.synthesis.reinforcement.policy import FIGURES, Policy, Rollout, save_turn
from refsynth.synthesis.reinforcement.reward import Scale, UpdateRows, rewards, rloo

FRESH = 32
"""Most texts on which a turn's divergence is measured. Each costs two passes, and a thousand tokens are precise enough."""


def reinforce(
    policy: Policy,
    prompts: Callable[[int], Sequence[Prompt]],
    writer: Callable[[Path], Generator],
    measure: Measure,
    folder: Path,
    *,
    select: Callable[[FloatArray, IntArray], UpdateRows] = rloo,
    turns: int,
    group_size: int,
    max_kl: float,
    seed: int,
    shuffled: bool = False,
) -> Iterator[Figures]:
    """Train the policy and yield the figures of each turn; those of finished turns come from disk.

    Args:
        policy: trained in place; ends in the state after the last turn.
        prompts: returns the prompts of a turn.
        writer: makes a generator from an exported policy.
        measure: measures what was written.
        folder: of the finished turns.
        select: returns what to learn from, given rewards and the prompt of each text.
        turns: how often to write, measure and learn.
        group_size: texts per prompt, at least 2: each is the baseline of the others.
        max_kl: nats per token from the reference. A policy further away after a turn is scaled back.
        seed: of the sampling.
        shuffled: permute the rewards of a turn among its texts: the control, which cannot learn.
    """
    scale: Scale | None = None
    for turn in range(turns):
        place = folder / f"turn-{turn}"
        if (place / FIGURES).is_file():
            record = read_json(place / FIGURES)
            scale = Scale(*record.pop("scale"))
            policy.restore(place)
            yield Figures(**record)
            continue
        started = time.monotonic()
        written = _write(policy, prompts(turn), writer, folder / "export", group_size, derive_seed(seed, "rollout", turn))
        measured = measure(written)
        scale = scale or Scale.of(measured.gains, measured.faulty)
        reward = rewards(measured.gains, measured.faulty, scale)
        dealt = np.random.default_rng(derive_seed(seed, "deal", turn)).permutation(reward) if shuffled else reward
        update = select(dealt, np.repeat(np.arange(len(written) // group_size), group_size))
        rollouts = [_rollout(policy, one) for one in written]
        likelihood = policy.update([rollouts[row] for row in update.rows], update.weights)
        kl = _bounded(policy, [rollouts[row] for row in _fresh(update.rows, len(rollouts))], max_kl)
        figures = Figures(
            turn=turn,
            reward=float(reward.mean()),
            gain=measured.gain,
            faulty=float(measured.faulty.mean()),
            kl=kl,
            log_likelihood=likelihood,
            distinct_2=measured.distinct_2,
            texts=len(written),
            seconds=round(time.monotonic() - started, 3),
        )
        save_turn(policy, {**asdict(figures), "scale": list(scale)}, place)
        yield figures
    shutil.rmtree(folder / "export", ignore_errors=True)


def _write(
    policy: Policy, prompts: Sequence[Prompt], writer: Callable[[Path], Generator], export: Path, group_size: int, seed: int
) -> list[PromptedCompletion]:
    shutil.rmtree(export, ignore_errors=True)
    policy.export(export)
    answers = writer(export).generate(prompts, n=group_size, seed=seed)
    return [PromptedCompletion(prompt, each) for prompt, answer in zip(prompts, answers, strict=True) for each in answer]


def _bounded(policy: Policy, fresh: Sequence[Rollout], max_kl: float) -> float:
    """Scale the policy back until its divergence on these texts is within the bound, and return that divergence.

    Near the reference, the divergence grows with the square of the adapter's scale, as in TRPO's trust region (Schulman et al.,
    2015, appendix C). So the square root is a first guess at the factor; a factor slightly below it makes the loop end.
    """
    kl = policy.divergence(fresh)
    while kl > max_kl:
        policy.draw_back(0.95 * math.sqrt(max_kl / kl))
        kl = policy.divergence(fresh)
    return kl


def _fresh(rows: IntArray, n: int) -> IntArray:
    """Return up to `FRESH` of the `n` texts that are not among `rows`, evenly over the prompts; from `rows` if there are none."""
    others = np.setdiff1d(np.arange(n), rows)
    candidates = others if len(others) else rows
    return candidates[:: math.ceil(len(candidates) / FRESH)]


def _rollout(policy: Policy, written: PromptedCompletion) -> Rollout:
    """Return the token ids of a completion. A finished text ends with a line break, or the policy would never learn to stop."""
    prompt, completion = written
    end = "\n" if completion.finished else ""
    return policy.rollout(prompt.text, completion.text + end)
