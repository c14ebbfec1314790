"""Opens a run folder again: it records its task, so one stage can be repeated from the folder alone, with changed settings."""

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
    """Open a run folder with overrides such as `filter.agreement=0.6`; steps that they do not affect come from the cache.

    Drafts that resemble test rows stay out.

    Args:
        run: its folder.
        overrides: changes of its task.
        watch: receives the progress.
        store: the model store; the usual one if None.
        grown: whether the rows may differ from those of the run. Otherwise different rows are refused: drafts for them would
            replace those that the bundle was trained on.
        makes: the only steps that may be made again; all may if empty.

    Raises:
        InputError: the folder holds no run, its rows have changed, or a step is not there and may not be made.
        RefsynthError: the overrides are wrong, or the rows can no longer be used.
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
            f"{run}: {' and '.join(changed)} changed since this run, and its drafts were written for the old rows",
            remedy=f"run again with the new rows: {command_of(run)}",
        )
