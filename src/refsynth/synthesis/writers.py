"""Who writes the drafts of a run: the reference as it comes, after pretraining, or after reinforcement."""

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
from refsynth.synthesis.reinforcement.policies import RewardCurve, teach
from refsynth.synthesis.reinforcement.policy_task import PolicyTask, halves
from refsynth.synthesis.topics import topics_of


@dataclass(frozen=True)
class Writers:
    """Who writes, and who is asked about what was written.

    Attributes:
        authors: who write, in equal shares.
        generator: makes the reference that drafts are judged by; of one on a network always the same, which counts requests.
        key: the hash of what the reference has learned before it is asked.
        topics: what the texts of the pool are about, by label, where prompts ask for it.
        curves: of the authors that were reinforced.
    """

    authors: Sequence[DraftWriter]
    generator: Callable[[], Generator]
    key: str
    topics: Mapping[str, Sequence[str]]
    curves: tuple[RewardCurve, ...] = ()


def prepare_writers(job: Job, source: ReferenceSource) -> Writers:
    """Return who writes; a policy is reinforced for each half of the rows where that is asked for."""
    topics = _topics(job)
    generator = _generator(job, source)
    authors, curves = _reinforced(job, source, topics)
    if not authors:
        config = job.task.config
        shown = shown_rows(job.rows.examples) if job.rows.kind.spans else job.rows.examples
        authors = [DraftWriter("", source.hash, generator, config.synthesis, shown, job.rows.folds)]
    return Writers(authors, generator, source.hash, topics, curves)


def _generator(job: Job, source: ReferenceSource) -> Callable[[], Generator]:
    make = partial(source.generator, job.task.config, job.folder.path)
    return cache(make) if job.task.config.writer.network else make


def _topics(job: Job) -> dict[str, tuple[str, ...]]:
    if "topics" not in job.task.config.synthesis.ways:
        return {}
    found = topics_of(job.task, job.pool, job.rows.language, job.context, job.folder)
    if not found:
        job.watch.note("too few unlabelled texts for topics: prompts ask by examples instead")
    return found


def _reinforced(
    job: Job, source: ReferenceSource, topics: Mapping[str, Sequence[str]]
) -> tuple[list[DraftWriter], tuple[RewardCurve, ...]]:
    """Return the reinforced authors with their curves; none where that is not asked for, or cannot be done."""
    config = job.task.config
    if not (config.reinforce.iterations and config.synthesis.drafts and can_write(job.task, job.rows.language)):
        return [], ()
    parts = halves(job.rows)
    if not all(part.judges for part in parts):
        job.watch.note("too few labelled rows to reward a policy: the reference writes as it is")
        return [], ()
    make_augmenters(config, job.rows.language)  # that they are here should be known before hours of reinforcement
    lesson = partial(PolicyTask, longest=LONGEST_DRAFT, topics=topics)
    taught = [teach(lesson(job.task, part, job.context, source, job.folder, job.watch)) for part in parts]
    for _, curve in taught:
        job.watch.stage("reinforce", curve.line())
    return [author for authors, _ in taught for author in authors], tuple(curve for _, curve in taught)
