"""A run folder knows its task, so that a part of the run can be done again from the folder alone, with some values changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from refsynth.core.errors import InputError
from refsynth.core.observe import Observer
from refsynth.core.record import command_of, files_of, recall, recall_leaked, recorded
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.models.quiet import quiet
from refsynth.models.store import ModelStore
from refsynth.pipeline.begin import Begun, begin


@contextmanager
def reopened(
    run: Path,
    overrides: Sequence[str],
    watch: Observer,
    *,
    store: ModelStore | None = None,
    grown: bool = False,
    makes: Sequence[str] = (),
) -> Iterator[Begun]:
    """Return the job of a run folder, with overrides such as `filter.agreement=0.6`; what they do not touch comes from the cache.

    Drafts that were found to resemble test rows stay out.

    Args:
        run: its folder.
        overrides: of its task.
        watch: is told what happens.
        store: where model weights are; the usual one if None.
        grown: the rows may have changed since the run. Otherwise that is refused: drafts for other rows would take the place of
            those that the bundle was trained on.
        makes: the only steps that may be made again; all may if empty.

    Raises:
        InputError: the folder holds no run, its rows have changed, or a step is not there and may not be made.
        RefsynthError: the overrides are wrong, or the rows cannot be used any more.
    """
    task, skip_bad = recall(run, overrides)
    if not grown:
        _check_rows(run, task)
    folder = RunFolder(run)
    with folder.lock(), quiet(), folder.making(*makes) if makes else nullcontext():
        yield begin(task, folder, store or ModelStore(), watch, skip_bad=skip_bad, forget=recall_leaked(task, folder))


def _check_rows(run: Path, task: Task) -> None:
    then, now = recorded(run)[0].get("files"), files_of(task)
    changed = [f"data.{role}" for role in ("train", "more") if then is not None and then[role] != now[role]]
    if changed:
        raise InputError(
            f"{run}: {' and '.join(changed)} changed since this run, and its drafts were written for the rows of then",
            remedy=f"run again with the new rows: {command_of(run)}",
        )
