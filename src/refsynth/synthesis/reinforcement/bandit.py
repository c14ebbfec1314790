"""A policy without gradients: it finds by trial which prompts and temperatures pay. It needs only texts from the reference.

Thompson sampling (Thompson, 1933; Chapelle and Li, 2011, "An Empirical Evaluation of Thompson Sampling") over arms with Gaussian
rewards. Prior N(0, 1) and unit noise match the scale of the rewards: after n texts with rewards of sum S, the posterior of an
arm's mean is N(S / (n + 1), 1 / (n + 1)).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import derive_seed
from refsynth.core.types import FloatArray, IntArray
from refsynth.synthesis.reinforcement.figures import Figures, Measure, PromptedCompletion
from refsynth.synthesis.reinforcement.reward import FAULT, Scale, rewards


class Bandit:
    """The posterior of A arms."""

    def __init__(self, arms: int) -> None:
        self._sums, self._counts = np.zeros(arms), np.zeros(arms)

    @property
    def means(self) -> FloatArray:
        """Expected reward of each arm [A]."""
        return np.asarray(self._sums / (self._counts + 1))

    def draw(self, n: int, *, seed: int, at_random: bool = False) -> IntArray:
        """Return `n` arms to try [n], each with the posterior probability that it is the best; or `at_random`, all alike."""
        rng = np.random.default_rng(seed)
        if at_random:
            return rng.integers(0, len(self._sums), n)
        samples = rng.normal(self.means, 1 / np.sqrt(self._counts + 1), size=(n, len(self._sums)))
        return np.asarray(samples.argmax(1))

    def learn(self, arms: IntArray, rewards: FloatArray) -> None:
        """Update the posterior with the rewards [M] of texts and the arms [M] that wrote them."""
        np.add.at(self._sums, arms, rewards)
        np.add.at(self._counts, arms, 1)

    def best(self, n: int) -> list[int]:
        """Return at most `n` of the arms that have been tried, the best first."""
        order = np.argsort(-self.means, kind="stable")
        return [int(arm) for arm in order if self._counts[arm]][:n]

    def state(self) -> list[list[float]]:
        """Return the state for `restore` as JSON-ready values."""
        return [self._sums.tolist(), self._counts.tolist()]

    def restore(self, state: Sequence[Sequence[float]]) -> None:
        """Set the state."""
        self._sums, self._counts = (np.array(part, float) for part in state)


def search(
    bandit: Bandit,
    write: Callable[[IntArray, int], Sequence[Sequence[PromptedCompletion]]],
    measure: Measure,
    folder: Path,
    *,
    turns: int,
    prompts: int,
    seed: int,
    at_random: bool = False,
) -> Iterator[Figures]:
    """Try arms and yield the figures of each turn; those of finished turns come from disk.

    Args:
        bandit: learns from the rewards; ends in the state after the last turn.
        write: returns the texts of each of the arms [P] in a turn. A chat model may give an arm fewer texts than others, or none.
        measure: measures the texts.
        folder: of the finished turns.
        turns: how often to write, measure and learn.
        prompts: arms per turn, P.
        seed: of the draws.
        at_random: draw the arms at random, as the control that a policy has to beat.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scale: Scale | None = None
    for turn in range(turns):
        place = folder / f"turn-{turn}.json"
        if place.is_file():
            record = read_json(place)
            scale = Scale(*record["scale"])
            bandit.restore(record["bandit"])
            yield Figures(**record["figures"])
            continue
        started = time.monotonic()
        arms = bandit.draw(prompts, seed=derive_seed(seed, "arms", turn), at_random=at_random)
        written = write(arms, turn)
        measured = measure([one for of_arm in written for one in of_arm])
        scale = scale or Scale.of(measured.gains, measured.faulty)
        reward = rewards(measured.gains, measured.faulty, scale)
        bandit.learn(np.repeat(arms, [len(of_arm) for of_arm in written]), reward)
        figures = Figures(
            turn=turn,
            reward=float(reward.mean()) if len(reward) else FAULT,
            gain=measured.gain,
            faulty=float(measured.faulty.mean()) if len(reward) else 1.0,
            distinct_2=measured.distinct_2,
            texts=len(reward),
            seconds=round(time.monotonic() - started, 3),
        )
        write_json(place, {"figures": asdict(figures), "scale": list(scale), "bandit": bandit.state()})
        yield figures
