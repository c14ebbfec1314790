"""Prepares the writers of a run: the plain reference, the pretrained one, or the policies that reinforcement trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from refsynth.core.protocols import Generator
from refsynth.learning.job import Job
from refsynth.synthesis.build import ReferenceSource, make_augmenters
from refsynth.synthesis.draft_writer import DraftWriter
from refsynth.synthesis.drafts import LONGEST_DRAFT
from refsynth.synthesis.markup import shown_rows
from refsynth.synthesis.prompts import can_write
from refsynth.synthesis.reinforcement.policies import RewardCurve, train_policy
from refsynth.synthesis.reinforcement.policy_task import PolicyTask, halves
from refsynth.synthesis.topics import topics_of


@dataclass(frozen=True)
class Writers:
    """The writers of the drafts, and the reference that scores the drafts.

    Attributes:
        writers: each writes an equal share.
        generator: makes the reference that scores drafts. A reference on a network is made once, since it counts its requests.
        key: the hash of the weights that the reference was trained to, if it was.
        topics: of the pool's texts by label, if prompts ask for them.
        curves: of the policies that reinforcement trained.
    """

    writers: Sequence[DraftWriter]
    generator: Callable[[], Generator]
    key: str
    topics: Mapping[str, Sequence[str]]
    curves: tuple[RewardCurve, ...] = ()


def prepare_writers(job: Job, source: ReferenceSource) -> Writers:
    """Return the writers. If reinforcement is on, a policy is trained for each half of the rows."""
    topics = _topics(job)
    make = partial(source.generator, job.task.config, job.folder.path)
    generator = cache(make) if job.task.config.reference_spec.network else make
    writers, curves = _reinforced(job, source, topics)
    if not writers:
        config = job.task.config
        shown = shown_rows(job.rows.examples) if job.rows.kind.words else job.rows.examples
        writers = [DraftWriter("", source.hash, generator, config.synthesis, shown, job.rows.folds)]
    return Writers(writers, generator, source.hash, topics, curves)


def _topics(job: Job) -> dict[str, tuple[str, ...]]:
    if "topics" not in job.task.config.synthesis.ways:
        return {}
    topics = topics_of(job.task, job.pool, job.rows.language, job.context, job.folder)
    if not topics:
        job.watch.note("too few unlabeled texts for topics: prompts show examples instead")
    return topics


def _reinforced(
    job: Job, source: ReferenceSource, topics: Mapping[str, Sequence[str]]
) -> tuple[list[DraftWriter], tuple[RewardCurve, ...]]:
    """Return the reinforced writers and their curves; none if reinforcement is off or impossible."""
    config = job.task.config
    if not (config.reinforce.iterations and config.synthesis.drafts and can_write(job.task, job.rows.language)):
        return [], ()
    parts = halves(job.rows)
    if not all(part.can_reward for part in parts):
        job.watch.note("too few labeled rows to reward a policy: the reference is not trained")
        return [], ()
    make_augmenters(config, job.rows.language)  # fails before hours of reinforcement if one is missing
    policy_task = partial(PolicyTask, longest=LONGEST_DRAFT, topics=topics)
    trained = [train_policy(policy_task(job.task, part, job.context, source, job.folder, job.watch)) for part in parts]
    for _, curve in trained:
        job.watch.stage("reinforce", curve.line())
    return [writer for writers, _ in trained for writer in writers], tuple(curve for _, curve in trained)
