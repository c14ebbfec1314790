"""The drafts that several benches judge: written once per set and seed, as a run with the defaults writes them."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import NamedTuple

from refsynth.bench.sets import Sample
from refsynth.core.config import RunConfig
from refsynth.core.run import RunFolder
from refsynth.core.types import Draft, Example
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore
from refsynth.pipeline.build import make_augmenters, make_generator, make_workshop
from refsynth.pipeline.drafts import screen_drafts, write_drafts
from refsynth.pipeline.encoder import prepare_encoder
from refsynth.pipeline.observe import Silent
from refsynth.pipeline.rows import Rows, read_rows
from refsynth.pipeline.steps import MAX_TOKENS
from refsynth.task import Task

BENCH = Path("build") / "bench"
JOURNALS = BENCH / "journals"
"""What the reference answered, by set and seed; the benches share it, and it outlives a version."""


class Pool(NamedTuple):
    """The labelled rows with their folds, all drafts, and the same drafts screened."""

    task: Task
    rows: Rows
    written: tuple[Example, ...]
    screened: list[Draft]
    encoder: TransformerEncoder


def draft_pool(sample: Sample, name: str, seed: int) -> Pool:
    """Return the pool of a sample, asking the reference only for what is not in the journal."""
    folder = BENCH / "pools" / f"{name}-{seed}"
    train, _ = sample.write(folder / "data")
    tree = {"language": "auto", "labels": dict(sample.labels), "data": {"train": str(train)}, "seed": seed}
    task, store = Task.of(RunConfig.parse(tree)), ModelStore()
    run = RunFolder(folder / "run")
    restore(run.path / "journal.jsonl", name, seed)
    rows = read_rows(task, run, skip_bad=False)
    generator = partial(make_generator, task.config, store)
    written = write_drafts(task, rows, run, generator, partial(make_augmenters, task.config), Silent())
    keep(run.path / "journal.jsonl", name, seed)
    screened = screen_drafts(task, rows, written, run, generator, forget=())
    shop = make_workshop(task, rows.language, prepare_encoder(task, rows, store, run), max_tokens=MAX_TOKENS)
    return Pool(task, rows, written.drafts, screened, shop.encoder)


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
