"""What a run folder records about its run: the task as it was requested, and which drafts resemble test rows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.core.code import code_of
from refsynth.core.config import RunConfig
from refsynth.core.errors import DamagedError, InputError
from refsynth.core.files import damaged, read_json, write_json
from refsynth.core.hashes import digest, file_digest
from refsynth.core.run import RunFolder
from refsynth.core.sections import FILES
from refsynth.core.task import Task

RECORD, LEAKED = "task.json", "leaked.json"

LATER = {"filter", "learners", "training", "search", "ensemble", "prompting", "compress", "contract", "track", "unsure"}
"""Sections about what is done with drafts. They do not change which drafts resemble test rows."""


def remember(task: Task, folder: RunFolder, *, skip_bad: bool) -> bool:
    """Write the run's request into its folder, with absolute paths.

    Returns:
        whether an earlier run in the folder had another request or other rows, so that its results are not those of this run.
    """
    config = task.config.placed(Path.absolute)
    record = {"config": config.model_dump(mode="json"), "skip_bad": skip_bad, "files": files_of(task)}
    other = (folder.path / RECORD).is_file() and not _holds(folder.path / RECORD, record)
    if task.file is not None:
        record |= {"task": str(task.file.absolute()), "overrides": list(task.overrides)}
    write_json(folder.path / RECORD, record, sort=False)  # labels keep their order, which is that of a model's answers
    return other


def _holds(path: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a file holds all values of a record, and perhaps more."""
    try:
        stored = read_json(path)
    except DamagedError:
        return False
    return isinstance(stored, Mapping) and all(stored.get(key) == value for key, value in record.items())


def command_of(run: Path) -> str:
    """Return the shell command that repeats a run: with its task.yaml and its overrides.

    It has `TASK.yaml` if the run did not start from a file, or if the file is gone.
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
    """Record the ids of the drafts and pool texts that were taken out because they resemble test rows."""
    write_json(folder.path / LEAKED, {"of": _asked(task), "ids": list(leaked)})


def recall_leaked(task: Task, folder: RunFolder) -> tuple[str, ...]:
    """Return the ids that `remember_leaked` recorded, if the run asks for the same drafts and has the same files."""
    if not (folder.path / LEAKED).is_file():
        return ()
    record = read_json(folder.path / LEAKED)
    return tuple(record["ids"]) if record["of"] == _asked(task) else ()


def _asked(task: Task) -> str:
    config = task.config.placed(Path.absolute)
    code = code_of("refsynth.synthesis.drafts", "refsynth.evaluation.leakage")
    return digest([config.model_dump(mode="json", exclude=LATER), list(files_of(task).values()), code])


def files_of(task: Task) -> dict[str, str | None]:
    """Return the hash of each file of the task; None if it is not named or cannot be read."""
    files = {role: getattr(task.config.data, role) for role in FILES}
    return {role: file_digest_or_none(path) if isinstance(path, Path) else None for role, path in files.items()}


class Remembered(NamedTuple):
    """The request of a run."""

    task: Task
    skip_bad: bool


def recall(run: Path, overrides: Sequence[str] = ()) -> Remembered:
    """Return the request of a run, changed by overrides such as `filter.agreement=0.6`.

    Raises:
        InputError: the folder holds no run, or the overrides are wrong.
    """
    record, config = recorded(run)
    return Remembered(Task.of(config.changed(overrides)), bool(record.get("skip_bad")))


def recorded(run: Path) -> tuple[Mapping[str, Any], RunConfig]:
    """Return the record of a run, and the configuration in it.

    Raises:
        InputError: the folder is not a run folder, or the record was changed.
    """
    if not (run / RECORD).is_file():
        raise InputError(f"{run}: not a run folder", remedy="refsynth run TASK.yaml --out RUN")
    record = read_json(run / RECORD)
    if not isinstance(record, Mapping) or not isinstance(record.get("config"), Mapping):
        raise damaged(run / RECORD, "no configuration in it")
    return record, RunConfig.parse(record["config"], where=str(run / RECORD))


def file_digest_or_none(path: Path) -> str | None:
    """Return the sha256 of a file, or None if it cannot be read; the code that reads it then raises the proper error."""
    try:
        return file_digest(path)
    except OSError:
        return None
