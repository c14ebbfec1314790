"""Continued language modelling of a policy: it learns to write as given texts are written, before any reward.

The gradient of a text's likelihood is that of a policy whose every text is worth the same (advantage 1, no divergence): the steps
are the policy's own. Texts come in turns, each on disk before the next, so that a killed training goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsynth.core.run import derive_seed, read_json, write_json
from refsynth.synthesis.reinforcement.policy import Policy, Rollout

TURN = 256
"""Texts of a turn."""

EPOCHS = 3
"""Passes over the texts, at most."""

LONGEST = 128
"""Tokens of a text; the rest is not read."""

FIGURES = "figures.json"


class TrainingTurn(NamedTuple):
    """What a turn came to: nats per token of held-out texts after it, different texts learnt from so far, and its seconds."""

    loss: float
    texts: int
    seconds: float


def imitate(
    policy: Policy, prompt: str, texts: Sequence[str], held: Sequence[str], folder: Path, *, minutes: float, seed: int
) -> Iterator[TrainingTurn]:
    """Train the policy and yield what each turn came to, the first before any text is learnt from.

    It ends when the minutes are used up, when the held-out loss rises, or with the last pass, and leaves the policy as its best
    turn left it.

    Args:
        policy: with a divergence of no weight.
        prompt: what the texts follow upon.
        texts: to learn from.
        held: that tell when to stop.
        folder: of the finished turns.
        minutes: in which no further turn begins; those of a killed training count.
        seed: of the order.
    """
    best, best_place, spent, read = float("inf"), folder, 0.0, 0
    for number, turn in enumerate(_turns(texts, seed=seed)):
        place = folder / f"turn-{number}"
        read = min(read + len(turn), len(texts))  # a later pass brings none that is new
        if not (place / FIGURES).is_file():
            started = time.monotonic()
            if turn:
                policy.update(_rollouts(policy, prompt, turn), np.ones(len(turn)))
            loss = nats_per_token(policy, prompt, held)
            _keep(policy, TrainingTurn(loss, read, round(time.monotonic() - started, 3)), place)
        else:
            policy.restore(place)
        figures = TrainingTurn(*read_json(place / FIGURES))
        yield figures
        spent += figures.seconds
        if figures.loss > best:
            break
        best, best_place = figures.loss, place
        if spent > 60 * minutes:
            return
    policy.restore(best_place)


def nats_per_token(policy: Policy, prompt: str, texts: Sequence[str]) -> float:
    """Return the mean of -log P over the tokens of texts that follow upon a prompt, in nats."""
    rollouts = _rollouts(policy, prompt, texts)
    return -float(policy.log_likelihoods(rollouts).sum()) / sum(len(one.text) for one in rollouts)


def _turns(texts: Sequence[str], *, seed: int) -> Iterator[list[str]]:
    """Yield nothing, for what is known before, and then the texts of each turn, dealt anew in each pass."""
    yield []
    for epoch in range(EPOCHS):
        order = np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(len(texts))
        for start in range(0, len(order), TURN):
            yield [texts[place] for place in order[start : start + TURN]]


def _rollouts(policy: Policy, prompt: str, texts: Sequence[str]) -> list[Rollout]:
    """Return texts as what a policy would have written, the end of the line being one of their tokens."""
    written = [policy.rollout(prompt, f" {' '.join(text.split())}\n") for text in texts]
    return [one._replace(text=one.text[:LONGEST]) for one in written]


def _keep(policy: Policy, turn: TrainingTurn, place: Path) -> None:
    """Write a turn; its figures are written last and make it finished."""
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    policy.save(partial)
    write_json(partial / FIGURES, list(turn))
    shutil.rmtree(place, ignore_errors=True)
    partial.replace(place)
