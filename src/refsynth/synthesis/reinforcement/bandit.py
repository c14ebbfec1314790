"""A policy without a gradient: which way of asking pays, found by trying. It needs nothing of the reference but its texts.

Thompson sampling (Thompson, 1933; Chapelle and Li, 2011, "An Empirical Evaluation of Thompson Sampling") over arms with Gaussian
rewards: prior N(0, 1) and unit noise, which is the scale of the rewards, so an arm whose n texts had rewards of sum S is believed
to be worth N(S / (n + 1), 1 / (n + 1)).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from refsynth.core.run import derive_seed, read_json, write_json
from refsynth.core.types import FloatArray, IntArray
from refsynth.synthesis.reinforcement.figures import Figures, Judge, PromptedCompletion
from refsynth.synthesis.reinforcement.reward import Scale, rewards


class Bandit:
    """What is believed of A arms."""

    def __init__(self, arms: int) -> None:
        self._sums, self._counts = np.zeros(arms), np.zeros(arms)

    @property
    def means(self) -> FloatArray:
        """Expected reward of each arm [A]."""
        return np.asarray(self._sums / (self._counts + 1))

    def draw(self, n: int, *, seed: int, blindly: bool = False) -> IntArray:
        """Return `n` arms to try [n]: each is drawn as often as it is believed to be the best, or `blindly` at random."""
        rng = np.random.default_rng(seed)
        if blindly:
            return rng.integers(0, len(self._sums), n)
        believed = rng.normal(self.means, 1 / np.sqrt(self._counts + 1), size=(n, len(self._sums)))
        return np.asarray(believed.argmax(1))

    def learn(self, arms: IntArray, rewards: FloatArray) -> None:
        """Take in the rewards [M] of texts that some arms gave [M]."""
        np.add.at(self._sums, arms, rewards)
        np.add.at(self._counts, arms, 1)

    def best(self, n: int) -> list[int]:
        """Return at most `n` arms, the best first, of those that have been tried."""
        order = np.argsort(-self.means, kind="stable")
        return [int(arm) for arm in order if self._counts[arm]][:n]

    def state(self) -> list[list[float]]:
        """Return what `restore` takes, as JSON-ready values."""
        return [self._sums.tolist(), self._counts.tolist()]

    def restore(self, state: Sequence[Sequence[float]]) -> None:
        """Take over a state."""
        self._sums, self._counts = (np.array(part, float) for part in state)


def search(
    bandit: Bandit,
    write: Callable[[IntArray, int], Sequence[PromptedCompletion]],
    judge: Judge,
    folder: Path,
    *,
    turns: int,
    prompts: int,
    seed: int,
    blindly: bool = False,
) -> Iterator[Figures]:
    """Try arms and yield the figures of each turn, those of finished turns first; the bandit is left as the last turn leaves it.

    Args:
        bandit: to be taught.
        write: has arms [P] write in a turn, the same number of texts for each, in their order.
        judge: judges what was written.
        folder: of the finished turns.
        turns: of trying, judging and learning.
        prompts: arms tried in a turn, P.
        seed: of the draws.
        blindly: draw the arms at random: the search that a policy has to beat.
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
        arms = bandit.draw(prompts, seed=derive_seed(seed, "arms", turn), blindly=blindly)
        written = write(arms, turn)
        judged = judge(written)
        scale = scale or Scale.of(judged.gains, judged.faulty)
        reward = rewards(judged.gains, judged.faulty, scale)
        bandit.learn(np.repeat(arms, len(written) // prompts), reward)
        figures = Figures(
            turn=turn,
            reward=float(reward.mean()),
            gain=judged.gain,
            faulty=float(judged.faulty.mean()),
            distinct_2=judged.distinct_2,
            texts=len(written),
            seconds=round(time.monotonic() - started, 3),
        )
        write_json(place, {"figures": asdict(figures), "scale": list(scale), "bandit": bandit.state()})
        yield figures
