"""Reinforced authors: each half of the folds rewards a policy of its own, which alone is shown that half's rows.

A policy that was rewarded for lowering the loss of some rows has seen these rows. With two of them, whichever fold the gate holds
out, the drafts of one have not seen it and may be trained on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from refsynth.core.code import code_of
from refsynth.core.drafting import PolicyName, SynthesisConfig, Way
from refsynth.core.protocols import Generator
from refsynth.core.run import derive_seed, digest, read_json, write_json
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import FloatArray, IntArray, Prompt
from refsynth.models.reference.context import reference_key
from refsynth.synthesis.build import MODEL, make_trained, ready_trained
from refsynth.synthesis.draft_writer import DraftWriter
from refsynth.synthesis.reinforcement.bandit import Bandit, search
from refsynth.synthesis.reinforcement.figures import Figures, PromptedCompletion
from refsynth.synthesis.reinforcement.loop import reinforce
from refsynth.synthesis.reinforcement.policy import Policy
from refsynth.synthesis.reinforcement.policy_task import PolicyTask
from refsynth.synthesis.reinforcement.reward import Learnt, half_of, raft, rloo

TEMPERATURES = (0.7, 1.0, 1.3)
WAYS: tuple[Way, ...] = get_args(Way)

ARMS = 3
"""Of the bandit's arms, the best that write: one would write much the same again and again."""

FURTHEST = 0.1
"""Nats per token from the reference that an adapter may be: imitation has no other tie to it, and has gone ten times as far."""

FIGURES = "figures.json"


class RewardCurve(NamedTuple):
    """The turns of the policy of one half."""

    half: str
    turns: tuple[Figures, ...]

    def line(self) -> str:
        """Return what the turns came to, for the screen."""
        first, last = self.turns[0], self.turns[-1]
        away = "" if last.kl is None else f", {last.kl:.3f} nats from the reference"
        return f"{self.half} half, {len(self.turns)} turns: reward {first.reward:+.2f} -> {last.reward:+.2f}{away}"


def teach(lesson: PolicyTask) -> tuple[list[DraftWriter], RewardCurve]:
    """Return the authors that come of a lesson, and the figures of its turns."""
    config = lesson.task.config
    settings, spec = settings_of(config), STEPS["policy"]
    extra: dict[str, Any] = {
        "encoder": lesson.context.encoder_hash,
        "control": lesson.control,
        "reference": lesson.source.hash,
        "reference.content": reference_key(config),
        "topics": sorted(lesson.topics.items()),
        "longest": lesson.longest,
    }
    way = WAYS_TO_LEARN[config.reinforce.policy]
    # More turns or minutes go on from the turns that there are.
    lasting = spec.without("reinforce.iterations", "reinforce.minutes")
    begun = digest(lesson.folder.key_of(lasting, way.train, config=settings, extra=extra))
    scratch = lesson.folder.path / "reinforce" / f"{lesson.half.name}-{begun[:12]}"
    step = f"policy-{lesson.half.name}"
    done = lesson.folder.step(spec, partial(way.train, lesson, scratch), config=settings, name=step, extra=extra)
    for place in scratch.parent.glob(f"{lesson.half.name}-*"):  # this lesson's, and those of killed ones with other settings
        shutil.rmtree(place)
    curve = RewardCurve(lesson.half.name, tuple(Figures(**record) for record in read_json(done / FIGURES)))
    learnt = lesson.folder.hash_of(step)
    return way.authors(lesson, done, learnt), curve


class UpdateRule(NamedTuple):
    """What of a turn an adapter learns from, and which share of so many siblings that is."""

    learn: Callable[[FloatArray, IntArray], Learnt]
    share: Callable[[int], float]


def _train_adapter(lesson: PolicyTask, scratch: Path, out: Path, *, rule: UpdateRule) -> None:
    config = lesson.task.config
    weights = lesson.source.weights(config)
    settings = config.reinforce
    learnt = max(1, round(settings.batch_size * rule.share(settings.group_size)))
    policy = Policy(
        weights.folder,
        start=weights.start,
        rate=settings.learning_rate,
        kl=settings.kl,
        batch=learnt,
        seed=lesson.seed,
        device=config.device,
    )

    def prompts(turn: int) -> list[Prompt]:
        return lesson.prompts(config.synthesis, turn, lesson.places(turn))

    def writer(exported: Path) -> Generator:
        ready = exported.with_name(MODEL)
        ready_trained(config, exported, ready)
        return make_trained(config, lesson.source.store, ready, name="rollout")

    turns = reinforce(
        policy,
        prompts,
        writer,
        lesson.judge,
        scratch,
        learn=rule.learn,
        turns=settings.iterations,
        siblings=settings.group_size,
        furthest=FURTHEST,
        seed=lesson.seed,
        shuffled=lesson.control,
    )
    figures = _watched(lesson, turns)
    policy.export(scratch / "final")
    ready_trained(config, scratch / "final", out / MODEL)
    write_json(out / FIGURES, [asdict(one) for one in figures])


def _adapted(lesson: PolicyTask, done: Path, learnt: str) -> list[DraftWriter]:
    config, half = lesson.task.config, lesson.half
    make = partial(make_trained, config, lesson.source.store, done / MODEL, name=f"reinforced:{learnt[:12]}")
    return [DraftWriter(half.name, learnt, make, config.synthesis, half.rows, half.folds, rewarded=True)]


def _train_bandit(lesson: PolicyTask, scratch: Path, out: Path) -> None:
    settings = lesson.task.config.reinforce
    ways = [way for way in WAYS if way != "topics" or lesson.topics]
    pairs = list(product(ways, TEMPERATURES))
    arms = [_arm(lesson.task, *pair) for pair in pairs]
    bandit = Bandit(len(arms))
    turns = search(
        bandit,
        partial(_try, lesson, arms),
        lesson.judge,
        scratch,
        turns=settings.iterations,
        prompts=settings.prompts,
        seed=lesson.seed,
        blindly=lesson.control,
    )
    figures = _watched(lesson, turns)
    write_json(out / "arms.json", [pairs[index] for index in bandit.best(ARMS)])
    write_json(out / FIGURES, [asdict(one) for one in figures])


def _arm(task: Task, way: Way, temperature: float) -> SynthesisConfig:
    return task.config.synthesis.model_copy(update={"ways": (way,), "temperature": temperature})


def _try(lesson: PolicyTask, arms: Sequence[SynthesisConfig], drawn: IntArray, turn: int) -> list[PromptedCompletion]:
    """Have arms [P] write, each for its place in the turn."""
    places, siblings = lesson.places(turn), lesson.task.config.reinforce.group_size
    written: dict[int, list[PromptedCompletion]] = {}
    for arm in np.unique(drawn):
        mine = np.flatnonzero(drawn == arm)
        prompts = lesson.prompts(arms[arm], turn, [places[index] for index in mine])
        generator = _asked(lesson, arms[arm])
        answers = generator.generate(prompts, n=siblings, seed=derive_seed(lesson.seed, "try", turn, int(arm)))
        for index, prompt, answer in zip(mine, prompts, answers, strict=True):
            written[int(index)] = [PromptedCompletion(prompt, completion) for completion in answer]
    return [one for index in range(len(drawn)) for one in written[index]]


def _asked(lesson: PolicyTask, settings: SynthesisConfig) -> Generator:
    return lesson.source.generator(lesson.task.config.model_copy(update={"synthesis": settings}))


def _chosen(lesson: PolicyTask, done: Path, learnt: str) -> list[DraftWriter]:
    half = lesson.half
    chosen = [_arm(lesson.task, way, temperature) for way, temperature in read_json(done / "arms.json")]
    # The drafts run code from here, which knows the arms.
    key = digest([learnt, code_of(__name__, excluded=STEPS["policy"].excluded)])
    return [
        DraftWriter(
            f"{half.name}-{number}", key, partial(_asked, lesson, settings), settings, half.rows, half.folds, rewarded=True
        )
        for number, settings in enumerate(chosen, start=1)
    ]


def _watched(lesson: PolicyTask, turns: Iterator[Figures]) -> list[Figures]:
    """Take the turns, as many as there are minutes for, and show how far they are."""
    settings = lesson.task.config.reinforce
    figures: list[Figures] = []
    with lesson.watch.progress(f"reinforce, {lesson.half.name} half", settings.iterations) as progress:
        for one in turns:
            figures.append(one)
            progress(len(figures))
            # Of finished turns the time counts too: a run that was killed ends where it would have ended.
            if settings.minutes is not None and sum(each.seconds for each in figures) > 60 * settings.minutes:
                break
    return figures


class WayToLearn(NamedTuple):
    """What learns: how it is trained, in a scratch folder and then in a step's, and the authors that come of the step."""

    train: Callable[[PolicyTask, Path, Path], None]
    authors: Callable[[PolicyTask, Path, str], list[DraftWriter]]


WAYS_TO_LEARN: Mapping[PolicyName, WayToLearn] = {
    "rloo": WayToLearn(partial(_train_adapter, rule=UpdateRule(rloo, lambda siblings: half_of(siblings) / siblings)), _adapted),
    "raft": WayToLearn(partial(_train_adapter, rule=UpdateRule(raft, lambda siblings: 1 / siblings)), _adapted),
    "bandit": WayToLearn(_train_bandit, _chosen),
}
"""Each policy by the name that `reinforce.policy` has for it."""
