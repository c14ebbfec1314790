"""Trains the policies of a run: each half of the folds rewards its own policy, and only that policy is shown the half's rows.

A policy that was rewarded for lowering the loss of some rows has seen these rows. There are two policies, so whichever fold the
gate holds out, one of them has not seen it, and its drafts may be trained on.
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
from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import derive_seed, digest
from refsynth.core.protocols import Generator
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import FloatArray, IntArray, Prompt
from refsynth.models.reference.context import reference_key
from refsynth.synthesis.build import MODEL, convert_trained, make_trained
from refsynth.synthesis.draft_writer import DraftWriter
from refsynth.synthesis.reinforcement.bandit import Bandit, search
from refsynth.synthesis.reinforcement.figures import Figures, PromptedCompletion
from refsynth.synthesis.reinforcement.loop import reinforce
from refsynth.synthesis.reinforcement.policy import FIGURES, Policy
from refsynth.synthesis.reinforcement.policy_task import PolicyTask
from refsynth.synthesis.reinforcement.reward import UpdateRows, half_of, raft, rloo

TEMPERATURES = (0.7, 1.0, 1.3)
WAYS: tuple[Way, ...] = get_args(Way)

ARMS = 3
"""How many of the bandit's best arms write drafts: a single arm would repeat itself."""

MAX_KL = 0.1
"""Nats per token by which an adapter may differ from the reference. Without this bound, `raft` went ten times as far."""


class RewardCurve(NamedTuple):
    """The turns of the policy of one half."""

    half: str
    turns: tuple[Figures, ...]

    def line(self) -> str:
        """Return the curve as one line for the screen."""
        first, last = self.turns[0], self.turns[-1]
        distance = "" if last.kl is None else f", {last.kl:.3f} nats from the reference"
        return f"{self.half} half, {len(self.turns)} turns: reward {first.reward:+.2f} -> {last.reward:+.2f}{distance}"


def train_policy(job: PolicyTask) -> tuple[list[DraftWriter], RewardCurve]:
    """Train a policy as a step; return the writers that use it, and the figures of its turns."""
    config = job.task.config
    settings, spec = settings_of(config), STEPS["policy"]
    extra: dict[str, Any] = {
        "encoder": job.context.encoder_hash,
        "control": job.control,
        "reference": job.source.hash,
        "reference.content": reference_key(config),
        "topics": sorted(job.topics.items()),
        "longest": job.longest,
    }
    method = METHODS[config.reinforce.policy]
    # With more iterations or minutes, training continues from the turns on disk.
    lasting = spec.without("reinforce.iterations", "reinforce.minutes")
    key = digest(job.folder.key_of(lasting, method.train, config=settings, extra=extra))
    scratch = job.folder.path / "reinforce" / f"{job.half.name}-{key[:12]}"
    step = f"policy-{job.half.name}"
    done = job.folder.step(spec, partial(method.train, job, scratch), config=settings, name=step, extra=extra)
    for place in scratch.parent.glob(f"{job.half.name}-*"):  # also those of killed runs with other settings
        shutil.rmtree(place)
    curve = RewardCurve(job.half.name, tuple(Figures(**record) for record in read_json(done / FIGURES)))
    return method.writers(job, done, job.folder.hash_of(step)), curve


class UpdateRule(NamedTuple):
    """Selects what an adapter learns from in a turn; `share` is the share of a group of a given size."""

    select: Callable[[FloatArray, IntArray], UpdateRows]
    share: Callable[[int], float]


def _train_adapter(job: PolicyTask, scratch: Path, out: Path, *, rule: UpdateRule) -> None:
    config = job.task.config
    weights = job.source.weights(config)
    settings = config.reinforce
    policy = Policy(
        weights.folder,
        start=weights.start,
        learning_rate=settings.learning_rate,
        kl=settings.kl,
        batch_size=max(1, round(settings.batch_size * rule.share(settings.group_size))),
        seed=job.seed,
        device=config.device,
    )

    def prompts(turn: int) -> list[Prompt]:
        return job.prompts(config.synthesis, turn, job.places(turn))

    def writer(exported: Path) -> Generator:
        model = exported.with_name(MODEL)
        convert_trained(config, exported, model)
        return make_trained(config, job.source.store, model, name="rollout")

    turns = reinforce(
        policy,
        prompts,
        writer,
        job.rewarder,
        scratch,
        select=rule.select,
        turns=settings.iterations,
        group_size=settings.group_size,
        max_kl=MAX_KL,
        seed=job.seed,
        shuffled=job.control,
    )
    figures = _run_turns(job, turns)
    policy.export(scratch / "final")
    convert_trained(config, scratch / "final", out / MODEL)
    write_json(out / FIGURES, [asdict(one) for one in figures])


def _adapter_writers(job: PolicyTask, done: Path, step_hash: str) -> list[DraftWriter]:
    config, half = job.task.config, job.half
    make = partial(make_trained, config, job.source.store, done / MODEL, name=f"reinforced:{step_hash[:12]}")
    return [DraftWriter(half.name, step_hash, make, config.synthesis, half.rows, half.folds, rewarded=True)]


def _train_bandit(job: PolicyTask, scratch: Path, out: Path) -> None:
    settings = job.task.config.reinforce
    ways = [way for way in WAYS if way != "topics" or job.topics]
    pairs = list(product(ways, TEMPERATURES))
    arms = [_arm(job.task, *pair) for pair in pairs]
    bandit = Bandit(len(arms))
    turns = search(
        bandit,
        partial(_write_with_arms, job, arms),
        job.rewarder,
        scratch,
        turns=settings.iterations,
        prompts=settings.prompts,
        seed=job.seed,
        at_random=job.control,
    )
    figures = _run_turns(job, turns)
    write_json(out / "arms.json", [pairs[index] for index in bandit.best(ARMS)])
    write_json(out / FIGURES, [asdict(one) for one in figures])


def _arm(task: Task, way: Way, temperature: float) -> SynthesisConfig:
    return task.config.synthesis.model_copy(update={"ways": (way,), "temperature": temperature})


def _write_with_arms(
    job: PolicyTask, arms: Sequence[SynthesisConfig], drawn: IntArray, turn: int
) -> list[list[PromptedCompletion]]:
    """Return the texts of each of the drawn arms [P] in a turn, each for its place."""
    places, group_size = job.places(turn), job.task.config.reinforce.group_size
    written: list[list[PromptedCompletion]] = [[] for _ in drawn]
    for arm in np.unique(drawn):
        mine = np.flatnonzero(drawn == arm)
        prompts = job.prompts(arms[arm], turn, [places[index] for index in mine])
        generator = _generator(job, arms[arm])
        answers = generator.generate(prompts, n=group_size, seed=derive_seed(job.seed, "try", turn, int(arm)))
        for index, prompt, answer in zip(mine, prompts, answers, strict=True):
            written[index] = [PromptedCompletion(prompt, completion) for completion in answer]
    return written


def _generator(job: PolicyTask, settings: SynthesisConfig) -> Generator:
    return job.source.generator(job.task.config.model_copy(update={"synthesis": settings}))


def _bandit_writers(job: PolicyTask, done: Path, step_hash: str) -> list[DraftWriter]:
    half = job.half
    arms = [_arm(job.task, way, temperature) for way, temperature in read_json(done / "arms.json")]
    # The drafts depend on this module too, which knows the arms.
    key = digest([step_hash, code_of(__name__, excluded=STEPS["policy"].excluded)])
    return [
        DraftWriter(f"{half.name}-{number}", key, partial(_generator, job, arm), arm, half.rows, half.folds, rewarded=True)
        for number, arm in enumerate(arms, start=1)
    ]


def _run_turns(job: PolicyTask, turns: Iterator[Figures]) -> list[Figures]:
    """Return the figures of the turns that fit into the minutes, and show progress."""
    settings = job.task.config.reinforce
    figures: list[Figures] = []
    with job.watch.progress(f"reinforce, {job.half.name} half", settings.iterations) as progress:
        for one in turns:
            figures.append(one)
            progress(len(figures))
            # The time of turns from disk counts too, so that a resumed run stops where it would have stopped.
            if settings.minutes is not None and sum(each.seconds for each in figures) > 60 * settings.minutes:
                break
    return figures


class PolicyMethod(NamedTuple):
    """How a policy is trained, with a scratch folder and a step's folder, and the writers that use the finished step."""

    train: Callable[[PolicyTask, Path, Path], None]
    writers: Callable[[PolicyTask, Path, str], list[DraftWriter]]


METHODS: Mapping[PolicyName, PolicyMethod] = {
    "rloo": PolicyMethod(partial(_train_adapter, rule=UpdateRule(rloo, lambda size: half_of(size) / size)), _adapter_writers),
    "raft": PolicyMethod(partial(_train_adapter, rule=UpdateRule(raft, lambda size: 1 / size)), _adapter_writers),
    "bandit": PolicyMethod(_train_bandit, _bandit_writers),
}
"""The methods by their names in `reinforce.policy`."""
