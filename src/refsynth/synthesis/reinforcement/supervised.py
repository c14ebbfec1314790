"""Continued language modeling of a policy: it learns to write like given texts, before any reward.

The gradient of a text's likelihood is that of a policy with advantage 1 for every text and no divergence term, so the steps are
the policy's own. Texts come in turns, and each turn is on disk before the next, so a killed training continues.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsynth.core.files import read_json
from refsynth.core.hashes import derive_seed
from refsynth.synthesis.reinforcement.policy import FIGURES, Policy, Rollout, save_turn

TURN = 256
"""Texts per turn."""

EPOCHS = 3
"""Most passes over the texts."""

LONGEST = 128
"""Tokens read of a text."""


class TrainingTurn(NamedTuple):
    """The result of a turn: nats per token of held-out texts after it, distinct texts learned from so far, and its seconds."""

    loss: float
    texts: int
    seconds: float


def train_on_texts(
    policy: Policy, prompt: str, texts: Sequence[str], held: Sequence[str], folder: Path, *, minutes: float, seed: int
) -> Iterator[TrainingTurn]:
    """Train the policy and yield the result of each turn; the first is measured before any training.

    Training ends when the minutes are used up, when the held-out loss rises, or after the last pass. The policy ends in the state
    after its best turn.

    Args:
        policy: with a divergence weight of 0.
        prompt: the prompt that the texts follow.
        texts: to learn from.
        held: for early stopping.
        folder: of the finished turns.
        minutes: no turn starts later; minutes of a killed training count.
        seed: of the order.
    """
    best, best_place, spent, read = float("inf"), folder, 0.0, 0
    for number, turn in enumerate(_turns(texts, seed=seed)):
        place = folder / f"turn-{number}"
        read = min(read + len(turn), len(texts))  # later passes bring no new texts
        if not (place / FIGURES).is_file():
            started = time.monotonic()
            if turn:
                policy.update(_rollouts(policy, prompt, turn), np.ones(len(turn)))
            loss = nats_per_token(policy, prompt, held)
            save_turn(policy, [loss, read, round(time.monotonic() - started, 3)], place)
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
    """Return the mean of -log P over the tokens of texts after a prompt, in nats."""
    rollouts = _rollouts(policy, prompt, texts)
    return -float(policy.log_likelihoods(rollouts).sum()) / sum(len(one.text) for one in rollouts)


def _turns(texts: Sequence[str], *, seed: int) -> Iterator[list[str]]:
    """Yield an empty turn, for the loss before training, then the texts of each turn, in a new order in each pass."""
    yield []
    for epoch in range(EPOCHS):
        order = np.random.default_rng(derive_seed(seed, "epoch", epoch)).permutation(len(texts))
        for start in range(0, len(order), TURN):
            yield [texts[place] for place in order[start : start + TURN]]


def _rollouts(policy: Policy, prompt: str, texts: Sequence[str]) -> list[Rollout]:
    """Return texts as a policy would write them, with the line break at the end."""
    written = [policy.rollout(prompt, f" {' '.join(text.split())}\n") for text in texts]
    return [one._replace(text=one.text[:LONGEST]) for one in written]
