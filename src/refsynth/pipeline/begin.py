"""The start of a run: reads the rows and prepares the encoder of their language. It trains nothing but that encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from refsynth.core.learners import LEARNERS
from refsynth.core.observe import Observer
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.windows import REACH, Windows
from refsynth.evaluation.origins import Pretraining
from refsynth.learning.context import make_context
from refsynth.learning.job import Job
from refsynth.learning.makers import make_learners
from refsynth.learning.outside import read_outside
from refsynth.learning.pool import read_pool
from refsynth.learning.prompting.templates import templates_for
from refsynth.learning.rows import read_rows
from refsynth.models.store import ModelStore
from refsynth.pipeline.encoder import prepare_encoder
from refsynth.synthesis.build import ReferenceSource, make_generator, trainable
from refsynth.synthesis.pretraining import pretrain_encoder


class Begun(NamedTuple):
    """A run that has begun.

    Attributes:
        job: the input of the stages.
        source: where the reference comes from.
        pretrained: what pretraining gained for the encoder; None if there was no pretraining.
    """

    job: Job
    source: ReferenceSource
    pretrained: Pretraining | None


def begin(
    task: Task, folder: RunFolder, store: ModelStore, watch: Observer, *, skip_bad: bool, forget: Sequence[str] = ()
) -> Begun:
    """Read the rows and the pool, and load the encoder; pretrain it on the pool if the task asks for that.

    Args:
        task: the task.
        folder: the run folder.
        store: the store of model weights.
        watch: receives progress and notes.
        skip_bad: leave unusable rows out.
        forget: ids of drafts and texts of the pool that nothing may learn from.

    Raises:
        RefsynthError: the rows cannot be used, or the encoder is not installed.
    """
    config = task.config
    rows = read_rows(task, folder, skip_bad=skip_bad)
    # Both only check: a mistake should be known before hours of work.
    if any(LEARNERS[name].prompted for name in config.learners):
        templates_for(rows.language, config.prompting.templates)
    if config.pretrain.reference:
        trainable(config, store)
    outside = read_outside(task, rows, folder, skip_bad=skip_bad)
    pool = read_pool(task, rows, folder, outside)
    if pool.unreadable:
        watch.note(f"data.pool: {pool.unreadable:,} of {pool.rows:,} rows cannot be read and are left out")
    pool = pool.without(frozenset(forget))
    texts = pool.texts if config.pretrain.encoder else ()
    plain = prepare_encoder(task, rows, store, folder, [row.text for row in texts])
    encoder, pretrained = pretrain_encoder(task, rows, plain, texts, folder, watch, again=bool(forget))
    context = make_context(
        task,
        rows.language,
        encoder,
        max_tokens=config.training.max_tokens,
        windows=config.windows,
        checkpoints=folder.path / "checkpoints",
        causal=trainable(config, store).folder if any(LEARNERS[name].reads == "reference" for name in config.learners) else None,
        reference=partial(make_generator, config, store, folder.path),
        unlabeled=tuple(row.text for row in pool.texts) if "distilled" in config.learners else (),
    )
    learners = make_learners(context, config.learners)
    job = Job(task, rows, pool, context, learners, folder, watch, skip_bad=skip_bad, forget=tuple(forget), outside=outside)
    return Begun(job, ReferenceSource(store), pretrained)


def notes_of(job: Job) -> tuple[str, ...]:
    """Return the notes on the rows that a user should read."""
    notes = (*job.rows.notes, *job.outside.notes)
    if all(LEARNERS[name].reads == "text" for name in job.task.config.learners):
        return notes
    encoder, windows = job.context.encoder, job.task.config.windows
    longer, cut = encoder.longer([row.text for row in job.rows.examples], words=job.rows.kind.words)
    return (*notes, *long_notes(longer, cut, encoder.max_tokens, windows))


def long_notes(longer: int, cut: int, longest: int, windows: Windows) -> list[str]:
    """Return a note on `longer` rows that exceed what the encoder reads at once, `cut` of which are not read to the end."""
    if not longer:
        return []
    have = "row has" if longer == 1 else "rows have"
    how = {
        "cut": f"only the first {longest} of each are read",
        "head_tail": f"only the first and the last {longest // 2} of each are read",
        "mean": "they are read in windows" + (f", {cut} of them only up to window {REACH}" if cut else ""),
    }
    return [f"{longer:,} {have} more than {longest} tokens: {how[windows]} (training.windows: {windows})"]
