"""The run folder: a cache of steps, crash-safe writing, content hashes, derived seeds, an event log.

A step is a pure function of what its `StepSpec` names: inputs, parts of the configuration, code. It writes into a temporary
folder that is renamed when it is complete, so a step is there whole or not at all, whenever the process dies. Knows nothing of
what steps do.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from refsynth.core.errors import DamagedError, InputError
from refsynth.core.lock import locked, no_link, not_waiting
from refsynth.core.step import StepSpec

Json = Any

HALVES = "backslashreplace"
"""Half a character (a lone surrogate) in JSON is written as JSON escapes it, and read again as it was."""


def canonical(value: Json) -> bytes:
    """Return the one JSON encoding of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", HALVES)


def digest(value: Json) -> str:
    """Return the sha256 of a JSON value, in hex."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file, in hex, reading it in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def size_of(folder: Path) -> float:
    """Return the size of all files below a folder, in MB."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def folder_digest(folder: Path, *, without: str = "") -> str:
    """Return one sha256 over the names and contents of all files below a folder, but the one in it that is called `without`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / without)
    return digest([[path.relative_to(folder).as_posix(), file_digest(path)] for path in files])


def derive_seed(seed: int, *names: object) -> int:
    """Return a seed in [0, 2^31) for one purpose, independent of the seeds for others."""
    return int(digest([seed, *map(str, names)])[:8], 16) % 2**31


def write_atomic(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file so that, at any moment, either the old or the new content is there and on disk.

    `mode` is what the process's umask leaves of it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)  # one that a killed process of the same number left would keep its mode
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Json, *, sort: bool = True) -> None:
    """Write a value as indented JSON, atomically; its keys are sorted unless their order says something."""
    write_atomic(path, indented(value, sort=sort))


def indented(value: Json, *, sort: bool = True) -> bytes:
    """Return a value as indented JSON; its keys are sorted unless their order says something."""
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=sort).encode("utf-8", HALVES) + b"\n"


def read_json(path: Path) -> Json:
    """Read a JSON file that refsynth wrote.

    Raises:
        DamagedError: it is no JSON, or no file.
        OSError: it cannot be read.
    """
    with opened(path) as stream:
        return _parsed(path, stream.read())


def write_jsonl(path: Path, records: Iterable[Json]) -> None:
    """Write one JSON value per line, atomically."""
    write_atomic(path, b"".join(json.dumps(record, ensure_ascii=False).encode("utf-8", HALVES) + b"\n" for record in records))


def read_jsonl(path: Path) -> Iterator[Json]:
    """Yield the values of a JSON-lines file that refsynth wrote.

    Raises:
        DamagedError: a line is no JSON, or it is no file.
        OSError: it cannot be read.
    """
    with opened(path) as stream:
        for line in stream:
            yield _parsed(path, line)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that refsynth wrote: a pipe in its place is not waited for, and a device is not read.

    Raises:
        DamagedError: it is no file.
        OSError: it cannot be read.
    """
    with open(path, "rb", opener=not_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise damaged(path, "not a file")
        yield stream


def damaged(path: Path, why: str) -> DamagedError:
    """Return the error for a file of a run that somebody or something changed."""
    return DamagedError(
        f"{path}: is not as refsynth wrote it ({why})", remedy="remove it, and give the command that made it again"
    )


def _parsed(path: Path, data: bytes) -> Json:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(path, str(error)[:80]) from error


class RunFolder:
    """A folder of finished steps: `RUN/steps/<name>/` beside its key in `step.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps = path / "steps"
        self._seen: set[str] = set()
        self._makes: tuple[str, ...] | None = None  # steps that may be made; None for all
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
        """Hold the folder for this process; the system lets go when the process ends, however it ends.

        At the end all of it but the bundle, which is made to be given away, is for this user alone.

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
        """Let no other steps be made: what they would give must be there, or an `InputError` says that it is not."""
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
            config: the configuration as a tree, of which the step depends on its sections.
            name: of the folder; the step's own if None.
            extra: the values that the spec names beside these, all of them, as JSON.
            using: which of the optional inputs are read.

        Returns:
            the finished folder; its content hash is `self.hash_of(name)`.

        Raises:
            ValueError: what is given is not what the spec names.
        """
        name = spec.name if name is None else name
        wanted = digest({"name": name, **self.key_of(spec, make, config=config, extra=extra, using=using)})
        final, partial = self.steps / name, self.steps / f".{name}.partial"
        if self._key_of(final) == wanted and self._intact(name):
            return final
        if self._makes is not None and name not in self._makes:
            raise InputError(
                f"{self.path}: has no step '{name}' for these settings, and this command makes only {', '.join(self._makes)}",
                remedy=f"finish the run with them first: refsynth run TASK.yaml --out {self.path}",
            )
        _remove(partial)
        partial.mkdir()
        started = time.monotonic()
        make(partial)
        write_json(partial / "step.json", {"key": wanted, "hash": folder_digest(partial)})
        _remove(final)
        partial.replace(final)
        self._seen.add(name)
        self.log("step", name=name, seconds=round(time.monotonic() - started, 2))
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
        """Return all that decides the result of a step but its name; see `step`.

        Raises:
            ValueError: what is given is not what the spec names.
        """
        if set(extra) != set(spec.extra) or not set(using) <= set(spec.optional):
            raise ValueError(f"step {spec.name}: found {sorted(extra)} using {sorted(using)}, expected {spec.extra}")
        inputs = {step: self.hash_of(step) for step in (*spec.inputs, *using)}
        return {"config": spec.settings(config), "inputs": inputs, "extra": dict(extra), "code": spec.code_hash(make)}

    def adopt(self, other: RunFolder) -> None:
        """Take over the finished steps of another run that are not here; `step` checks that they are what is asked for."""
        for made in sorted(path.parent for path in other.steps.glob("*/step.json")):
            final, partial = self.steps / made.name, self.steps / f".{made.name}.partial"
            if not final.exists():
                _remove(partial)
                shutil.copytree(made, partial)
                partial.replace(final)

    def _intact(self, name: str) -> bool:
        """Tell whether a finished step holds what was written; asked once by each process."""
        folder = self.steps / name
        if name not in self._seen:
            if folder.is_symlink() or folder_digest(folder, without="step.json") != self.hash_of(name):
                self.log("damaged", name=name)
                return False
            self._seen.add(name)
        return True

    def done(self, name: str) -> bool:
        """Tell whether a step is finished (for whatever key)."""
        return (self.steps / name / "step.json").is_file()

    def hash_of(self, name: str) -> str:
        """Return the content hash of a finished step."""
        return str(read_json(self.steps / name / "step.json")["hash"])

    def log(self, event: str, **fields: Json) -> None:
        """Append an event to `events.jsonl`. Never give it user text."""
        record = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
        with open(self.path / "events.jsonl", "a", encoding="utf-8", opener=no_link) as stream:
            stream.write(json.dumps(record) + "\n")

    @staticmethod
    def _key_of(folder: Path) -> str | None:
        try:
            return str(read_json(folder / "step.json")["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _remove(path: Path) -> None:
    """Remove a folder or a link, if there is one; what a link leads to stays."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def seconds_of(events: Iterable[Mapping[str, Json]]) -> dict[str, float]:
    """Return the seconds that each step took when it was last made."""
    return {event["name"]: event["seconds"] for event in events if event["event"] == "step"}
