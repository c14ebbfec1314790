"""What are drafts of a generator that reinforcement has trained worth to the student, against an untrained one and controls?

Three designs are trained: an adapter by policy gradient (rloo), one on the best drafts (raft), the choice of prompts (bandit).
Policies are rewarded by all labeled rows, in folds; the student is judged on test rows, which no policy has met. The bandit and
random search are given the seconds that the first took. All arms write the same number of drafts and train the same two students:
the head of a frozen encoder, with which rewards are computed, and that of one that was tuned on the real rows, which ships.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_least, at_most, figure, means
from benchmarks.pool import draft_pool
from benchmarks.sets import Sample
from benchmarks.suite import Group, Over, Suite, cell
from refsynth.core.protocols import Learner, Predictor
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Example, kept
from refsynth.learning.baseline import FrozenLearner
from refsynth.learning.job import Job
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.models.predict import logits_of
from refsynth.models.store import ModelStore
from refsynth.synthesis.build import ReferenceSource
from refsynth.synthesis.draft_writer import DraftWriter, compose
from refsynth.synthesis.drafts import LONGEST_DRAFT
from refsynth.synthesis.plan import ANYWHERE
from refsynth.synthesis.reinforcement.policies import MAX_KL, RewardCurve, train_policy
from refsynth.synthesis.reinforcement.policy_task import Half, PolicyTask
from refsynth.synthesis.reinforcement.reward import Scale, rewards
from refsynth.synthesis.selection.choose import chooser_of
from refsynth.synthesis.selection.filter import screen
from refsynth.synthesis.writers import Writers

SETS = ("financial_phrasebank", "snips", "bitext_support")
"""Those of short texts, a turn of which takes a third of the time."""

BUDGET = 130
TIMED = False
TURNS = 5
DRAFTS = 300

UNTRAINED, TRAINED, SHUFFLED = "untrained", "trained (rloo)", "shuffled rewards"
IMITATED, CHOSEN, RANDOM = "trained (raft)", "trained (bandit)", "random search"
ARMS = (UNTRAINED, TRAINED, SHUFFLED, IMITATED, CHOSEN, RANDOM)

REAL = "real only"
TUNED, FROZEN = "", ", frozen"
"""Students, as the names of systems end."""

SYSTEMS = tuple(f"{arm}{student}" for student in (TUNED, FROZEN) for arm in (REAL, *ARMS))


def _measure(sample: Sample, name: str, seed: int) -> list[Cell]:
    started = time.monotonic()
    pool = draft_pool(sample, name, seed)
    job = pool.job
    folder = RunFolder(job.folder.path.with_name("reinforced"))
    folder.adopt(job.folder)  # the rows
    job = replace(job, folder=folder)
    real = job.rows.examples
    labels, encoder = job.task.labels, job.context.encoder
    learners: dict[str, Learner] = {
        TUNED: ContrastiveLearner(labels, encoder, job.task.descriptions),
        FROZEN: FrozenLearner(labels, encoder),
    }
    models: dict[str, Predictor] = {f"{REAL}{name}": learner.fit(real, (), seed=seed) for name, learner in learners.items()}
    taught, facts = _authors(job, pool.writers), dict[str, dict[str, Any]]()
    scale: Scale | None = None
    for arm, (writers, curve) in taught.items():
        written = _write(job, writers, arm, seed)
        judged = _lesson(job, "rloo").rewarder.measure(written)
        scale = scale or Scale.of(judged.gains, judged.faulty)  # of the untrained reference
        reward = float(rewards(judged.gains, judged.faulty, scale).mean())
        screened = screen(written, real, longest=LONGEST_DRAFT)
        for student, learner in learners.items():
            chosen = kept(chooser_of(job, screened).choose(models[f"{REAL}{student}"], real, screened))
            models[f"{arm}{student}"] = learner.fit([*real, *chosen], (), seed=seed)
            facts[f"{arm}{student}"] = {"drafts": len(chosen), "reward": reward, "faulty": float(judged.faulty.mean())}
        if curve.turns and curve.turns[-1].kl is not None:
            facts[arm] |= {"rewards": [turn.reward for turn in curve.turns], "kl": curve.turns[-1].kl}
    said = logits_of(models, sample.texts)
    k, truth, seconds = len(labels), sample.truth, time.monotonic() - started
    return [cell(system, truth, said[system].argmax(1), seconds, k) | facts.get(system, {}) for system in SYSTEMS]


def _authors(job: Job, writers: Writers) -> dict[str, tuple[Sequence[DraftWriter], RewardCurve]]:
    """Return who writes in each arm, and the turns that taught them."""
    trained = train_policy(_lesson(job, "rloo"))
    minutes = sum(turn.seconds for turn in trained[1].turns) / 60
    untrained = DraftWriter("", "", writers.generator, job.task.config.synthesis, job.rows.examples, job.rows.folds)
    return {
        UNTRAINED: ([untrained], RewardCurve("", ())),
        TRAINED: trained,
        SHUFFLED: train_policy(_lesson(job, "rloo", control=True)),
        IMITATED: train_policy(_lesson(job, "raft")),
        CHOSEN: train_policy(_lesson(job, "bandit", turns=1000, minutes=minutes)),
        RANDOM: train_policy(_lesson(job, "bandit", turns=1000, minutes=minutes, control=True)),
    }


def _lesson(job: Job, policy: str, *, turns: int = TURNS, minutes: float | None = None, control: bool = False) -> PolicyTask:
    config = job.task.config
    settings = config.reinforce.model_copy(update={"policy": policy, "iterations": turns, "minutes": minutes})
    task = Task.of(config.model_copy(update={"reinforce": settings}))
    everyone = Half(f"{policy}-control" if control else policy, job.rows.examples, job.rows.folds)
    source = ReferenceSource(ModelStore())
    return PolicyTask(task, everyone, job.context, source, job.folder, job.watch, LONGEST_DRAFT, control=control)


def _write(job: Job, writers: Sequence[DraftWriter], arm: str, seed: int) -> Sequence[Example]:
    return compose(
        writers,
        DRAFTS,
        job.task.descriptions,
        RunFolder(job.folder.path.with_name(arm.replace(" ", "-"))).path,
        language=job.rows.language,
        seed=seed,
        focus=ANYWHERE,
        progress=lambda done: None,
    ).drafts


def _learnt(cells: Cells) -> list[Check]:
    """Return whether the trained generator's drafts are rewarded more than the untrained one's, and how far it went."""
    untrained = {(one["set"], one["seed"]): one["reward"] for one in cells.find(system=UNTRAINED)}
    rises = means((one["set"], one["reward"] - untrained[one["set"], one["seed"]]) for one in cells.find(system=TRAINED))
    rise = at_least("mean reward over the untrained", figure(rises, "deviations", over="data sets"), 0.0, 0.3)
    apart = figure([one["kl"] for one in cells.rows if "kl" in one], "nats per token", over="policies", statistic=np.max)
    return [rise | {"ok": rise["low"] > 0}, at_most("furthest policy from the reference", apart, MAX_KL)]


def _held(student: str) -> Iterator[Over]:
    """Yield what a trained generator is held to, by the accuracy of a student of its drafts."""
    for arm in (TRAINED, IMITATED, CHOSEN):
        for other, aim in ((UNTRAINED, 1.5), (RANDOM, 1.0)):
            yield Over(f"{arm} over {other}{student}", f"{arm}{student}", f"{other}{student}", floor=0.0, aim=aim)
    yield Over(f"{TRAINED} over {SHUFFLED}{student}", f"{TRAINED}{student}", f"{SHUFFLED}{student}", floor=0.0, aim=1.5)


SUITE = Suite(
    SETS, groups=(Group(_measure, SYSTEMS),), order=SYSTEMS, held=(*_held(TUNED), *_held(FROZEN)), seeds=3, more=_learnt
)
cells, table, checks = SUITE.cells, SUITE.table, SUITE.checks
