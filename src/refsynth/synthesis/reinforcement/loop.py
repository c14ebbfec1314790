"""Reinforcement of a generator: write, judge, step, again. Each round is on disk before the next, so a killed one goes on.

A round writes drafts with the policy as it is (on-policy, through a fast engine that reads an export of it), has them judged, and
learns from some of them. What is kept of a round is small: adapter, optimiser, figures. The exports are scratch.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from refsynth.core.protocols import Generator
from refsynth.core.run import derive_seed, read_json, write_json
from refsynth.core.types import FloatArray, IntArray, Prompt
from refsynth.synthesis.reinforcement.figures import Figures, Judge, PromptedCompletion
from refsynth.synthesis.reinforcement.policy import Policy, Rollout
from refsynth.synthesis.reinforcement.reward import Learnt, Scale, rewards, rloo

FIGURES = "figures.json"

FRESH = 32
"""Texts, at most, on which a turn's divergence is measured: each costs two passes, and a thousand tokens tell it well enough."""


def reinforce(
    policy: Policy,
    prompts: Callable[[int], Sequence[Prompt]],
    writer: Callable[[Path], Generator],
    judge: Judge,
    folder: Path,
    *,
    learn: Callable[[FloatArray, IntArray], Learnt] = rloo,
    turns: int,
    siblings: int,
    furthest: float,
    seed: int,
    shuffled: bool = False,
) -> Iterator[Figures]:
    """Train the policy and yield the figures of each round, those of finished rounds first.

    Args:
        policy: to be trained; left as the last round leaves it.
        prompts: what is asked in a round.
        writer: makes a generator from an exported policy.
        judge: judges what was written.
        folder: of the finished rounds.
        learn: what is learnt from, of rewards and the prompts that they belong to.
        turns: rounds.
        siblings: texts per prompt, each the baseline of the others; at least 2.
        furthest: nats per token from the reference; a turn that ends further away is drawn back.
        seed: of the sampling.
        shuffled: deal the rewards out anew among all texts of a round: the control in which nothing can be learnt.
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
        written = _write(policy, prompts(turn), writer, folder / "export", siblings, derive_seed(seed, "rollout", turn))
        judged = judge(written)
        scale = scale or Scale.of(judged.gains, judged.faulty)
        reward = rewards(judged.gains, judged.faulty, scale)
        dealt = np.random.default_rng(derive_seed(seed, "deal", turn)).permutation(reward) if shuffled else reward
        groups = np.repeat(np.arange(len(written) // siblings), siblings)
        learnt = learn(dealt, groups)
        rollouts = [_rollout(policy, one) for one in written]
        likelihood = policy.update([rollouts[row] for row in learnt.rows], learnt.worth)
        kl = _bounded(policy, [rollouts[row] for row in _fresh(learnt.rows, len(rollouts))], furthest)
        figures = Figures(
            turn=turn,
            reward=float(reward.mean()),
            gain=judged.gain,
            faulty=float(judged.faulty.mean()),
            kl=kl,
            log_likelihood=likelihood,
            distinct_2=judged.distinct_2,
            texts=len(written),
            seconds=round(time.monotonic() - started, 3),
        )
        _keep(policy, figures, scale, place)
        yield figures
    shutil.rmtree(folder / "export", ignore_errors=True)


def _write(
    policy: Policy, prompts: Sequence[Prompt], writer: Callable[[Path], Generator], export: Path, siblings: int, seed: int
) -> list[PromptedCompletion]:
    shutil.rmtree(export, ignore_errors=True)
    policy.export(export)
    answers = writer(export).generate(prompts, n=siblings, seed=seed)
    return [PromptedCompletion(prompt, each) for prompt, answer in zip(prompts, answers, strict=True) for each in answer]


def _bounded(policy: Policy, fresh: Sequence[Rollout], furthest: float) -> float:
    """Draw the policy back until it is within its bound by these texts, and return how far from the reference it is.

    Near the reference the divergence grows with the square of the adapter's share, as TRPO's trust region has it (Schulman et
    al., 2015, appendix C): the root is a first guess at the share to keep, a little less of it makes an end certain.
    """
    kl = policy.divergence(fresh)
    while kl > furthest:
        policy.draw_back(0.95 * math.sqrt(furthest / kl))
        kl = policy.divergence(fresh)
    return kl


def _fresh(rows: IntArray, n: int) -> IntArray:
    """Return up to `FRESH` of `n` texts not learnt from, evenly over the prompts; of those learnt from if there are no others."""
    rest = np.setdiff1d(np.arange(n), rows)
    found = rest if len(rest) else rows
    return found[:: math.ceil(len(found) / FRESH)]


def _rollout(policy: Policy, written: PromptedCompletion) -> Rollout:
    """Return the token ids of what was written; the end of a finished text is one of its tokens, or it would never be learnt."""
    prompt, completion = written
    end = "\n" if completion.finished else ""
    return policy.rollout(prompt.text, completion.text + end)


def _keep(policy: Policy, figures: Figures, scale: Scale, place: Path) -> None:
    """Write a round; its figures are written last and make it finished."""
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    policy.save(partial)
    write_json(partial / FIGURES, {**asdict(figures), "scale": list(scale)})
    shutil.rmtree(place, ignore_errors=True)
    partial.replace(place)
