"""The run folder: a cache of steps and an event log.

A step is a pure function of what its `StepSpec` names: inputs, parts of the configuration, code. It writes into a temporary
folder that is renamed when it is complete, so a step is there whole or not at all, even if the process is killed. Nothing here
knows what steps do.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

from refsynth.core.errors import InputError
from refsynth.core.files import Json, read_json, write_json
from refsynth.core.hashes import digest, folder_digest
from refsynth.core.lock import locked, no_link
from refsynth.core.parts import changed_parts, parts_of
from refsynth.core.step import StepSpec


class RunFolder:
    """A folder of finished steps: `RUN/steps/<name>/` beside its key in `step.json`.

    `step.json` holds the parts of the key too. If a step is made again, its event in `events.jsonl` names the parts that differ.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps = path / "steps"
        self._seen: set[str] = set()
        self._makes: tuple[str, ...] | None = None  # the steps that may be made; None: all
        try:
            if path.exists() and any(path.iterdir()) and not self.steps.is_dir():
                raise InputError(f"{path}: not empty and not a run folder", remedy="name a new folder with --out")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir(mode=0o700, exist_ok=True)  # it holds the user's texts
            self.steps.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="name another with --out") from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process. The system releases it when the process ends, however it ends.

        At the end all of it is made private to this user, except the bundle, which is made to be given away.

        Raises:
            InputError: another process holds it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / ".lock", wait=False))
            except BlockingIOError as error:
                remedy = "wait for it, or name another --out"
                raise InputError(f"{self.path}: another run is at work there", remedy=remedy) from error
            stack.callback(self._close_to_others)
            yield

    def _close_to_others(self) -> None:
        for folder, folders, files in os.walk(self.path):
            here = Path(folder)
            here.chmod(0o700)
            for name in files:
                if not (here / name).is_symlink():
                    (here / name).chmod(0o600)
            if here == self.path:
                folders[:] = [name for name in folders if name != "bundle"]

    @contextmanager
    def making(self, *names: str) -> Iterator[None]:
        """Allow only these steps to be made. Another step must be there already, or `step` raises an `InputError`."""
        self._makes = names
        try:
            yield
        finally:
            self._makes = None

    def step(
        self,
        spec: StepSpec,
        make: Callable[[Path], None],
        *,
        config: Mapping[str, Json],
        name: str | None = None,
        extra: Mapping[str, Json] = MappingProxyType({}),
        using: Collection[str] = (),
    ) -> Path:
        """Return the folder of a step, made by `make(folder)` unless the same step is there already.

        Args:
            spec: what the result depends on.
            make: writes the step's files into the folder that it is given.
            config: the configuration as a tree; the step depends on the sections that the spec names.
            name: of the folder; default: the step's own.
            extra: the values of all further names in the spec, as JSON.
            using: the optional inputs that are read.

        Returns:
            the finished folder; its content hash is `self.hash_of(name)`.

        Raises:
            InputError: the step is not there, and `making` does not allow it to be made.
            ValueError: `extra` or `using` is not what the spec names.
        """
        name = spec.name if name is None else name
        decisive = self.key_of(spec, make, config=config, extra=extra, using=using)
        key, parts = digest({"name": name, **decisive}), parts_of(decisive)
        final, partial = self.steps / name, self.steps / f".{name}.partial"
        before = _record_of(final)
        if before.get("key") == key and self._intact(name):
            return final
        if self._makes is not None and name not in self._makes:
            raise InputError(
                f"{self.path}: has no step '{name}' for these settings, and this command makes only {', '.join(self._makes)}",
                remedy=f"finish the run with them first: refsynth run TASK.yaml --out {self.path}",
            )
        again = {"because": _reasons(before, key, parts)} if final.is_dir() else {}
        _remove(partial)
        partial.mkdir()
        started = time.monotonic()
        make(partial)
        write_json(partial / "step.json", {"key": key, "hash": folder_digest(partial), "parts": parts})
        _remove(final)
        partial.replace(final)
        self._seen.add(name)
        self.log("step", name=name, seconds=round(time.monotonic() - started, 2), **again)
        return final

    def key_of(
        self,
        spec: StepSpec,
        make: Callable[..., None],
        *,
        config: Mapping[str, Json],
        extra: Mapping[str, Json] = MappingProxyType({}),
        using: Collection[str] = (),
    ) -> dict[str, Json]:
        """Return all that decides the result of a step except its name; the arguments are those of `step`.

        Raises:
            ValueError: `extra` or `using` is not what the spec names.
        """
        if set(extra) != set(spec.extra) or not set(using) <= set(spec.optional):
            raise ValueError(f"step {spec.name}: found {sorted(extra)} using {sorted(using)}, expected {spec.extra}")
        inputs = {step: self.hash_of(step) for step in (*spec.inputs, *using)}
        return {"config": spec.settings(config), "inputs": inputs, "extra": dict(extra), "code": spec.code_hash(make)}

    def adopt(self, other: RunFolder) -> None:
        """Copy the finished steps of another run that are not here; `step` checks that they are the requested ones."""
        for made in sorted(path.parent for path in other.steps.glob("*/step.json")):
            final, partial = self.steps / made.name, self.steps / f".{made.name}.partial"
            if not final.exists():
                _remove(partial)
                shutil.copytree(made, partial)
                partial.replace(final)

    def _intact(self, name: str) -> bool:
        """Return whether a finished step is as it was written. Each process checks it once."""
        folder = self.steps / name
        if name not in self._seen:
            if folder.is_symlink() or folder_digest(folder, without="step.json") != self.hash_of(name):
                self.log("damaged", name=name)
                return False
            self._seen.add(name)
        return True

    def done(self, name: str) -> bool:
        """Return whether a step is finished, with any key."""
        return (self.steps / name / "step.json").is_file()

    def hash_of(self, name: str) -> str:
        """Return the content hash of a finished step."""
        return str(read_json(self.steps / name / "step.json")["hash"])

    def log(self, event: str, **fields: Json) -> None:
        """Append an event to `events.jsonl`. Its fields must not hold texts of the user."""
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
        with open(self.path / "events.jsonl", "a", encoding="utf-8", opener=no_link) as stream:
            stream.write(json.dumps(record) + "\n")


def _record_of(folder: Path) -> Mapping[str, Json]:
    """Return what a finished step's `step.json` holds; nothing if it cannot be read."""
    try:
        record = read_json(folder / "step.json")
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _reasons(before: Mapping[str, Json], key: str, parts: Mapping[str, Json]) -> list[str]:
    """Return the names of what differs from the step that was there.

    `damaged`: its files are not as they were written. `unknown`: what it was made of is not written down.
    """
    names = ["damaged"] if before.get("key") == key else changed_parts(before.get("parts"), parts)
    return names or ["unknown"]


def _remove(path: Path) -> None:
    """Remove a folder or a link, if there is one. The target of a link stays."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def seconds_of(events: Iterable[Mapping[str, Json]]) -> dict[str, float]:
    """Return the seconds that each step took when it was last made."""
    return {event["name"]: event["seconds"] for event in events if event["event"] == "step"}
