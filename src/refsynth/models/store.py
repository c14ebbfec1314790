"""The store: a cache folder of ready models, each complete or absent.

A model is made in a partial folder under a lock. Its manifest with the hash of every file is written last, and the folder is
renamed into place, so a killed process never leaves a folder that looks ready. Only `fetch` uses the network; `sources` reads the
sources.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from refsynth.core.errors import ModelError
from refsynth.core.files import read_json
from refsynth.core.lock import locked
from refsynth.models.catalog import CatalogEntry, entry_of
from refsynth.models.manifest import MANIFEST, check_files, content_hash, read_manifest, seal
from refsynth.models.sources import from_folder, from_hub, from_wheels

Source = Literal["wheel", "hub"]
Progress = Callable[[str, str], None]
"""Called with a model and each stage that it enters."""


class ModelStatus(NamedTuple):
    """The status of a model, without reading its weights."""

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
    """Ready models by name: in the cache, or else in the read-only folder that $REFSYNTH_MODELS names."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or default_root()) / "models"
        read_only = os.environ.get("REFSYNTH_MODELS")
        self._places = (self.root, Path(read_only)) if read_only else (self.root,)
        self._checked: set[Path] = set()

    def path(self, name: str) -> Path:
        """Return the ready folder of a model; the first call verifies the hashes of its files.

        Raises:
            ModelError: it is not in the store, or a file has changed.
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
        """Return whether a model is there, its path, and its size on disk."""
        entry_of(name)
        try:
            folder = self._folder(name)
        except ModelError:
            return ModelStatus(name, ready=False, path=None, megabytes=0.0, source="", hash="")
        manifest = read_json(folder / MANIFEST)
        size = sum(file["bytes"] for file in manifest["files"].values()) / 1e6
        return ModelStatus(name, True, folder, round(size, 1), str(manifest["source"]), content_hash(manifest))

    def verify(self, name: str) -> ModelStatus:
        """Verify the hash of every file of a model again and return its status.

        Raises:
            ModelError: it is not in the store, or a file has changed.
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
        """Return the ready folder of a model, and make it first if it is missing.

        Args:
            name: the name of the model.
            progress: called with each stage.
            source: the pinned wheel, or the model hub.
            folder: if given, copy the ready model `folder/<name>` instead.
            force: make the folder again even if it is there.

        Raises:
            ModelError: the model could not be made, or the hash of a file differs from the pinned one.
            ExtraError: this model's conversion needs an extra that is not installed.
        """
        entry = entry_of(name)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with locked(self.root / f".{name}.lock"):  # the system releases the lock if its holder dies
                if not force and self.status(name).ready:
                    return self._folder(name)
                return self._make(entry, lambda stage: progress(name, stage), source, folder)
        except OSError as error:
            remedy = "free some space, or name another cache with REFSYNTH_CACHE"
            raise ModelError(f"{self.root}: cannot be written ({error.strerror or error})", remedy=remedy) from error

    def _make(self, entry: CatalogEntry, stage: Callable[[str], None], source: Source, folder: Path | None) -> Path:
        for leftover in self.root.glob(f".{entry.name}.*.partial"):  # this process holds the lock, so these are of dead ones
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
