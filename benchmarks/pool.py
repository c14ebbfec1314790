"""The drafts that several benches judge: written once per set and seed, as a run with the defaults writes them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench import BUILD
from benchmarks.sets import Sample
from refsynth.core.config import RunConfig
from refsynth.core.observe import Silent
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Draft, Example
from refsynth.learning.job import Job
from refsynth.models.store import ModelStore
from refsynth.pipeline.begin import begin
from refsynth.pipeline.flow import writers_of
from refsynth.synthesis.rounds import screened, write_rounds
from refsynth.synthesis.writers import Writers

JOURNALS = BUILD / "journals"
"""What the reference answered, by set and seed; the benches share it, and it outlives a version."""


class Pool(NamedTuple):
    """A job that has read its rows, who wrote, all drafts, and the same drafts screened."""

    job: Job
    writers: Writers
    written: tuple[Example, ...]
    screened: list[Draft]


def draft_pool(sample: Sample, name: str, seed: int) -> Pool:
    """Return the pool of a sample, asking the reference only for what is not in the journal."""
    folder = BUILD / "pools" / f"{name}-{seed}"
    train, _ = sample.write(folder / "data")
    tree = {"language": "auto", "labels": dict(sample.labels), "data": {"train": str(train)}, "seed": seed}
    run = RunFolder(folder / "run")
    restore(run.path / "journal.jsonl", name, seed)
    begun = begin(Task.of(RunConfig.parse(tree)), run, ModelStore(), Silent(), skip_bad=False)
    writers = writers_of(begun)
    written, _ = write_rounds(begun.job, writers)
    keep(run.path / "journal.jsonl", name, seed)
    return Pool(begun.job, writers, written.drafts, screened(begun.job, writers, written))


def restore(journal: Path, name: str, seed: int) -> bool:
    """Put the kept journal of a set and seed where a run looks for it, and return whether there was one."""
    kept = JOURNALS / f"{name}-{seed}.jsonl"
    if kept.exists():
        journal.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(kept, journal)
    return kept.exists()


def keep(journal: Path, name: str, seed: int) -> None:
    """Keep the journal of a run for the next bench."""
    if journal.exists():
        JOURNALS.mkdir(parents=True, exist_ok=True)
        shutil.copy(journal, JOURNALS / f"{name}-{seed}.jsonl")
