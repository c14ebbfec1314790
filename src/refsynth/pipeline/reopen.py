"""A run folder knows its task, so that a part of the run can be done again from the folder alone, with some values changed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.core.code import code_of
from refsynth.core.config import RunConfig
from refsynth.core.errors import DamagedError, InputError
from refsynth.core.run import RunFolder, damaged, digest, read_json, write_json
from refsynth.core.sections import FILES
from refsynth.models.quiet import quiet
from refsynth.models.store import ModelStore
from refsynth.pipeline.job import Job
from refsynth.pipeline.observe import Observer
from refsynth.pipeline.rows import file_digest_or_none
from refsynth.task import Task

RECORD, LEAKED = "task.json", "leaked.json"

LATER = {"filter", "learners", "training", "search", "ensemble", "prompting", "compress", "contract", "track", "unsure"}
"""Sections about what is done with drafts: those that resemble test rows do so whatever these say."""


def remember(task: Task, folder: RunFolder, *, skip_bad: bool) -> bool:
    """Write what the run was asked for into its folder; paths are made absolute.

    Returns:
        whether an earlier run there was asked for something else, or of other rows: what it left is not of this one.
    """
    config = task.config.placed(Path.absolute)
    record = {"config": config.model_dump(mode="json"), "skip_bad": skip_bad, "files": _files(task)}
    other = (folder.path / RECORD).is_file() and not _says(folder.path / RECORD, record)
    if task.file is not None:
        record |= {"task": str(task.file.absolute()), "overrides": list(task.overrides)}
    write_json(folder.path / RECORD, record)
    return other


def _says(path: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a file says what a record does, and perhaps more."""
    try:
        found = read_json(path)
    except DamagedError:
        return False
    return isinstance(found, Mapping) and all(found.get(key) == value for key, value in record.items())


def command_of(run: Path) -> str:
    """Return the command that does a run again, as a shell takes it: with its task.yaml and what was said otherwise.

    Of a run that was not begun with one, or whose task.yaml is gone, it has `TASK.yaml`.
    """
    try:
        record = recorded(run)[0]
    except InputError:
        record = {}
    file, overrides = Path(str(record.get("task"))), record.get("overrides")
    known = "task" in record and file.is_file()
    near = file.relative_to(Path.cwd()) if known and file.is_relative_to(Path.cwd()) else file
    changes = [part for one in (overrides if isinstance(overrides, list) else ()) for part in ("--set", str(one))]
    skip = ["--skip-bad-rows"] if record.get("skip_bad") else []
    return shlex.join(["refsynth", "run", str(near) if known else "TASK.yaml", "--out", str(run), *changes, *skip])


def remember_leaked(task: Task, folder: RunFolder, leaked: Sequence[str]) -> None:
    """Write down which drafts and texts of the pool were taken out because they resemble test rows."""
    write_json(folder.path / LEAKED, {"of": _asked(task), "ids": list(leaked)})


def recall_leaked(task: Task, folder: RunFolder) -> tuple[str, ...]:
    """Return what `remember_leaked` wrote, if the same drafts were asked for of the same files."""
    if not (folder.path / LEAKED).is_file():
        return ()
    record = read_json(folder.path / LEAKED)
    return tuple(record["ids"]) if record["of"] == _asked(task) else ()


def _asked(task: Task) -> str:
    config = task.config.placed(Path.absolute)
    code = code_of("refsynth.pipeline.drafts", "refsynth.quality.leakage")
    return digest([config.model_dump(mode="json", exclude=LATER), list(_files(task).values()), code])


def _files(task: Task) -> dict[str, str | None]:
    """Return the hash of each file of the task; None where it is not named or not there."""
    data = task.config.data
    files = {name: getattr(data, name) for name in FILES}
    return {role: file_digest_or_none(path) if isinstance(path, Path) else None for role, path in files.items()}


class Remembered(NamedTuple):
    """What a run was asked for."""

    task: Task
    skip_bad: bool


def recall(run: Path, overrides: Sequence[str] = ()) -> Remembered:
    """Return what a run was asked for, with overrides such as `filter.agreement=0.6`.

    Raises:
        InputError: the folder holds no run, or the overrides are wrong.
    """
    record, config = recorded(run)
    return Remembered(Task.of(config.changed(overrides)), bool(record.get("skip_bad")))


def recorded(run: Path) -> tuple[Mapping[str, Any], RunConfig]:
    """Return what a run wrote down of itself, and the configuration in it.

    Raises:
        InputError: the folder holds no run, or what it wrote down was changed.
    """
    if not (run / RECORD).is_file():
        raise InputError(f"{run}: not a run folder", remedy="refsynth run TASK.yaml --out RUN")
    record = read_json(run / RECORD)
    if not isinstance(record, Mapping) or not isinstance(record.get("config"), Mapping):
        raise damaged(run / RECORD, "no configuration in it")
    return record, RunConfig.parse(record["config"], where=str(run / RECORD))


@contextmanager
def reopened(
    run: Path, overrides: Sequence[str], watch: Observer, *, store: ModelStore | None = None, grown: bool = False
) -> Iterator[Job]:
    """Return the job of a run folder, with overrides such as `filter.agreement=0.6`; what they do not touch comes from the cache.

    Drafts that were found to resemble test rows stay out. `grown` says that the rows may be others than those of the run. Without
    it that is refused: drafts for other rows would take the place of those that the bundle was trained on.

    Raises:
        InputError: the folder holds no run, or its rows have changed.
        RefsynthError: the overrides are wrong, or the rows cannot be used any more.
    """
    task, skip_bad = recall(run, overrides)
    if not grown:
        _check_rows(run, task)
    folder = RunFolder(run)
    with folder.lock(), quiet():
        job = Job.begin(task, folder, store or ModelStore(), watch, skip_bad=skip_bad)
        leaked = recall_leaked(task, folder)
        yield job.forgetting(leaked) if leaked else job


def _check_rows(run: Path, task: Task) -> None:
    then, now = recorded(run)[0].get("files"), _files(task)
    changed = [f"data.{role}" for role in ("train", "more") if then is not None and then[role] != now[role]]
    if changed:
        raise InputError(
            f"{run}: {' and '.join(changed)} changed since this run, and its drafts were written for the rows of then",
            remedy=f"run again with the new rows: {command_of(run)}",
        )
